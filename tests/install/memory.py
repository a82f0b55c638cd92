"""The header from Python, through cffi: a server and a client in one process exchange a message through memory.

Arguments: the header, the shared library, the folder of certs/make-certs.sh.
"""
import re
import sys

import cffi

header, library, certs = sys.argv[1:]

# What the header takes from others. cffi reads declarations, not directives: comments, conditions and macros go.
OTHERS = """
typedef struct ssl_st SSL; typedef struct ssl_ctx_st SSL_CTX; typedef struct bio_st BIO; typedef struct x509_st X509;
typedef struct x509_store_ctx_st X509_STORE_CTX; typedef unsigned int socklen_t;
struct sockaddr { uint16_t sa_family; char sa_data[14]; };
struct sockaddr_in { uint16_t sin_family; uint16_t sin_port; uint32_t sin_addr; char sin_zero[8]; };
struct sockaddr_in6 { uint16_t sin6_family, sin6_port; uint32_t sin6_flowinfo; char sin6_addr[16]; uint32_t sin6_scope_id; };
struct epoll_event;
SSL_CTX *SSL_CTX_new(const void *method); void SSL_CTX_free(SSL_CTX *ctx); const void *DTLS_method(void);
int SSL_CTX_load_verify_locations(SSL_CTX *ctx, const char *file, const char *path);
"""
text = open(header).read()
constants = dict(re.findall(r"^#define (DV_\w+) \(?(-?\d+)\)?$", text, re.M))
text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
text = re.sub(r'^#.*|^extern "C" \{|^\}$', "", text, flags=re.M).replace("DV_LIST_NODE", "struct dv_list_node")

ffi = cffi.FFI()
ffi.cdef(OTHERS + text)
ssl = ffi.dlopen("libssl.so.3")
dv = ffi.dlopen(library)
OPENED, MESSAGE = int(constants["DV_EVENT_OPENED"]), int(constants["DV_EVENT_MESSAGE"])


def good(result):
    assert result >= 0, ffi.string(dv.dv_last_error()).decode()
    return result


def side(port, set_up):
    context = ffi.gc(ssl.SSL_CTX_new(ssl.DTLS_method()), ssl.SSL_CTX_free)
    set_up(context)
    config, made = ffi.new("dv_config *"), ffi.new("dv_endpoint **")
    good(dv.dv_config_init(config, ffi.sizeof("dv_config")))
    good(dv.dv_endpoint_new(context, config, made))
    address = ffi.new("dv_address *")
    address.v4.sin_family, address.v4.sin_port, address.v4.sin_addr = 2, port, 0x0100007F
    return ffi.gc(made[0], dv.dv_endpoint_free), address


def carry(source, target, now):
    """What waits at one side goes to the other."""
    out = ffi.new("dv_datagram[8]")
    count = good(dv.dv_endpoint_transmit(source[0], out, 8, 1))
    for datagram in out[0:count]:
        datagram.peer, datagram.local = source[1][0], target[1][0]
    if count:
        good(dv.dv_endpoint_receive(target[0], now, out, count))


def events(endpoint):
    event = ffi.new("dv_event *")
    while dv.dv_endpoint_event(endpoint, event) == 1:
        yield event


def file(name):
    return f"{certs}/{name}".encode()


server = side(1, lambda context: good(dv.dv_ssl_certificate(
    context, ffi.new("char[]", file("server-ecdsa.pem")), ffi.new("char[]", file("server-ecdsa.key")))))
client = side(2, lambda context: good(ssl.SSL_CTX_load_verify_locations(context, file("ca.pem"), ffi.NULL) - 1))
session = ffi.new("dv_session *")
good(dv.dv_endpoint_connect(client[0], 0, ffi.addressof(server[1].any), ffi.sizeof("dv_address"), b"localhost", ffi.NULL, session))
heard = b""
for now in range(20):
    carry(client, server, now)
    carry(server, client, now)
    for event in events(client[0]):
        if event.kind == OPENED:
            good(dv.dv_endpoint_send(client[0], event.session, b"hello from Python", 17))
    for event in events(server[0]):
        if event.kind == MESSAGE:
            heard = bytes(ffi.buffer(event.data, event.len))
print(heard.decode())
sys.exit(heard != b"hello from Python")
