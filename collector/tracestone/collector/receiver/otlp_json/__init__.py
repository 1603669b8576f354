"""OTLP's own JSON form, turned into the protobuf bytes that every other sender sends."""
