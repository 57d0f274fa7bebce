//! Starts real quern processes for tests.
