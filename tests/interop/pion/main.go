// A peer on pion's DTLS 1.2, in the version that Debian packages. ../README.md says how it is called.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/pion/dtls/v2"
)

// Long enough for a handshake under loss.
const patience = time.Minute

const messageMax = 16384

func check(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// The one session of a client, for the next handshake.
type store struct{ session dtls.Session }

func (s *store) Set(_ []byte, session dtls.Session) error { s.session = session; return nil }
func (s *store) Get([]byte) (dtls.Session, error)         { return s.session, nil }
func (s *store) Del([]byte) error                         { s.session = dtls.Session{}; return nil }

type options struct {
	ca, cert, key, psk string
	mtu, local         int
}

func read(arguments []string) (options, *net.UDPAddr) {
	var o options
	set := flag.NewFlagSet("peer", flag.ExitOnError)
	set.StringVar(&o.ca, "ca", "", "")
	set.StringVar(&o.cert, "cert", "", "")
	set.StringVar(&o.key, "key", "", "")
	set.StringVar(&o.psk, "psk", "", "")
	set.IntVar(&o.mtu, "mtu", 1200, "")
	set.IntVar(&o.local, "local", 0, "")
	check(set.Parse(arguments))
	address, err := net.ResolveUDPAddr("udp", set.Arg(0))
	check(err)
	return o, address
}

func (o *options) config() *dtls.Config {
	config := &dtls.Config{MTU: o.mtu, ExtendedMasterSecret: dtls.RequireExtendedMasterSecret}
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		check(err)
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
		config.ClientCAs, config.ClientAuth = config.RootCAs, dtls.RequireAndVerifyClientCert
	}
	if o.cert != "" {
		certificate, err := tls.LoadX509KeyPair(o.cert, o.key)
		check(err)
		config.Certificates = []tls.Certificate{certificate}
	}
	if o.psk != "" {
		config.PSK = func([]byte) ([]byte, error) { return hex.DecodeString(o.psk) }
		config.PSKIdentityHint = []byte("client")
		config.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256}
	}
	return config
}

// The line "." ends the session and begins another one from the same port, with what the first one left.
func client(o options, to *net.UDPAddr) {
	lines := bufio.NewScanner(os.Stdin)
	sessions := &store{}
	for again := true; again; {
		socket, err := net.DialUDP("udp", &net.UDPAddr{IP: to.IP, Port: o.local}, to)
		check(err)
		o.local = socket.LocalAddr().(*net.UDPAddr).Port
		config := o.config()
		config.SessionStore = sessions
		if o.psk == "" {
			config.ServerName = "localhost"
		}
		id := string(sessions.session.ID)
		within, cancel := context.WithTimeout(context.Background(), patience)
		session, err := dtls.ClientWithContext(within, socket, config)
		cancel()
		check(err)
		fmt.Printf("open resumed=%t\n", id != "" && id == string(sessions.session.ID))
		over := make(chan struct{})
		go func() {
			message := make([]byte, messageMax)
			for {
				length, err := session.Read(message)
				if err != nil {
					close(over)
					return
				}
				fmt.Println(string(message[:length]))
			}
		}()
		for again = false; !again && lines.Scan(); {
			if again = lines.Text() == "."; !again {
				_, err := session.Write(lines.Bytes())
				check(err)
			}
		}
		check(session.Close())
		<-over
	}
}

func server(o options, at *net.UDPAddr) {
	listener, err := dtls.Listen("udp", at, o.config())
	check(err)
	fmt.Println("listening", listener.Addr())
	for {
		session, err := listener.Accept()
		if err != nil {
			fmt.Println("error", err)
			continue
		}
		fmt.Println("open")
		go func() {
			defer session.Close()
			message := make([]byte, messageMax)
			for {
				length, err := session.Read(message)
				if err != nil {
					return
				}
				session.Write(message[:length])
			}
		}()
	}
}

func main() {
	o, address := read(os.Args[2:])
	if os.Args[1] == "server" {
		server(o, address)
	} else {
		client(o, address)
	}
}
