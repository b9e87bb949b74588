"""What people in Korea do with what was found. Knows no model and no door."""
