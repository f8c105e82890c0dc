"""The web page: load a photo, paint its hole, fill it with several methods, look inside, draw edges, download."""
