"""Scoring methods: records, tables, intervals and significance."""
