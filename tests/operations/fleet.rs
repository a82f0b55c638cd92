pub const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
pub const PROOFS: &[crate::Proof] = &[];
