"""Files: outputs that appear whole, mapped inputs, protobuf's wire format."""
