// The header from C++: a server and a client in one process exchange a message through memory. argv[1]: the folder of
// certs/make-certs.sh.
#include <dv_dtls.h>

#include <arpa/inet.h>

#include <cstdio>
#include <memory>
#include <string>

namespace {

struct Free {
    void operator()(SSL_CTX *context) const { SSL_CTX_free(context); }
    void operator()(dv_endpoint *endpoint) const { dv_endpoint_free(endpoint); }
};

struct Side {
    std::unique_ptr<SSL_CTX, Free> context{SSL_CTX_new(DTLS_method())};
    std::unique_ptr<dv_endpoint, Free> endpoint;
    dv_address address{};
    std::string heard;

    explicit Side(unsigned short port)
    {
        address.v4.sin_family = AF_INET;
        address.v4.sin_port = htons(port);
        address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }

    bool open()
    {
        dv_config config;
        dv_endpoint *made = nullptr;
        if (dv_config_init(&config, sizeof(config)) != 0 || dv_endpoint_new(context.get(), &config, &made) != 0) {
            return false;
        }
        endpoint.reset(made);
        return true;
    }

    // What waits here goes to the other side; how much that was.
    int carry_to(Side &to, uint64_t now)
    {
        dv_datagram out[8];
        int count = dv_endpoint_transmit(endpoint.get(), out, 8, 1);
        for (int i = 0; i < count; i++) {
            out[i].peer = address;
            out[i].local = to.address;
        }
        if (count > 0 && dv_endpoint_receive(to.endpoint.get(), now, out, static_cast<size_t>(count)) != 0) {
            return -1;
        }
        return count;
    }

    void look(const std::string &greeting)
    {
        dv_event event;
        while (dv_endpoint_event(endpoint.get(), &event) == 1) {
            if (event.kind == DV_EVENT_OPENED && !greeting.empty()) {
                dv_endpoint_send(endpoint.get(), event.session, greeting.data(), greeting.size());
            } else if (event.kind == DV_EVENT_MESSAGE) {
                heard.assign(static_cast<const char *>(event.data), event.len);
            }
        }
    }
};

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2 || dv_check_version(DV_VERSION_NUM) != DV_OK) {
        return 64;
    }
    const std::string certs = argv[1];
    Side server(1), client(2);
    std::string certificate = certs + "/server-ecdsa.pem", key = certs + "/server-ecdsa.key", ca = certs + "/ca.pem";
    dv_session session = 0;
    if (dv_ssl_certificate(server.context.get(), &certificate[0], &key[0]) != 0 ||
        SSL_CTX_load_verify_locations(client.context.get(), ca.c_str(), nullptr) != 1 || !server.open() || !client.open() ||
        dv_endpoint_connect(client.endpoint.get(), 0, &server.address.any, sizeof(server.address), "localhost", nullptr,
                            &session) != 0) {
        std::fprintf(stderr, "%s\n", dv_last_error());
        return 1;
    }
    for (uint64_t now = 0; now < 20 && server.heard.empty(); now++) {
        if (client.carry_to(server, now) < 0 || server.carry_to(client, now) < 0) {
            std::fprintf(stderr, "%s\n", dv_last_error());
            return 1;
        }
        client.look("hello from C++");
        server.look("");
    }
    std::printf("%s\n", server.heard.c_str());
    return server.heard == "hello from C++" ? 0 : 1;
}
