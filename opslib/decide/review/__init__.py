"""The quarterly review: this quarter against the last, the targets and the next (`review_quarter`)."""
