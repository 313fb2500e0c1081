"""What would have happened otherwise: before and after, difference in differences, synthetic control."""
