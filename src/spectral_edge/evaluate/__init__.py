"""Where theory meets measurement."""
