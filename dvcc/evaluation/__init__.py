"""What a control is worth: real encodes, against every baseline, with intervals."""
