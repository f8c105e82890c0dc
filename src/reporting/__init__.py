"""Where results leave: records, tables, picture grids, curves and the report."""
