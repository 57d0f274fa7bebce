//! QUIC endpoints, TLS, connections and framed streams.
