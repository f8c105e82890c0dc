"""Web page: open an image, paint its hole, fill it with several methods, edit edges, download."""
