"""Reading and writing images: formats, modes, EXIF, profiles."""
