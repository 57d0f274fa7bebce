//! The name server: routes and broker liveness.
