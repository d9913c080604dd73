"""Who was weighted up, and when."""
