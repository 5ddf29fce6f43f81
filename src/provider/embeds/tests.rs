//! Vectors over HTTP, by commands and from recordings.
