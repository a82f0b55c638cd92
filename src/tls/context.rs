//! What is set on an SSL_CTX.
