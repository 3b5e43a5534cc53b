"""The shipped launch plans: what there is, and copies to change."""
