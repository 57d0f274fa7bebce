//! Nouns and messages of the Quernstone protocol, and their encoding.
