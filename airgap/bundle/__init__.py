"""The file format: bytes in, bytes out. Knows neither USB sticks nor HTTP nor who is trusted."""
