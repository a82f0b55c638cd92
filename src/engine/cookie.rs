//! Cookies of the stateless stage (RFC 6347 4.2.1).
