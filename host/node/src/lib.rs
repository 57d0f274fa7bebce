//! Composes the roles one configuration asks for.
