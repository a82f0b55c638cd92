// A peer on werift, WebRTC in TypeScript. As a server, for one client. Its certificates are of ECDSA, and it checks none.

const dgram = require("dgram");
const fs = require("fs");
const path = require("path");
const readline = require("readline");

// What the package itself shows of DTLS is for WebRTC only.
const inside = path.join(__dirname, "node_modules/werift/lib/dtls/src");
const { DtlsClient } = require(path.join(inside, "client.js"));
const { DtlsServer } = require(path.join(inside, "server.js"));

const words = process.argv.slice(2);
const option = (name) => (words.includes(name) ? words[words.indexOf(name) + 1] : undefined);
const isServer = words[0] === "server";
const [address, port] = words.at(-1).split(":");
let peer = isServer ? undefined : { address, port: Number(port) };

const socket = dgram.createSocket("udp4");
const transport = {
  onData() {},
  send: (datagram) => new Promise((sent) => socket.send(datagram, peer.port, peer.address, sent)),
  close: async () => socket.close(),
};
socket.on("message", (datagram, from) => {
  peer ??= from;
  transport.onData(datagram, [from.address, from.port]);
});

socket.bind(isServer ? Number(port) : Number(option("-local") ?? 0), address, async () => {
  console.log("listening", `${socket.address().address}:${socket.address().port}`);
  const options = { transport, extendedMasterSecret: true };
  if (option("-cert")) {
    options.cert = fs.readFileSync(option("-cert"), "utf8");
    options.key = fs.readFileSync(option("-key"), "utf8");
    options.signatureHash = { hash: 4, signature: 3 }; // SHA-256, ECDSA
  }
  const session = new (isServer ? DtlsServer : DtlsClient)(options);
  session.onData.subscribe((message) => (isServer ? session.send(message) : console.log(message.toString())));
  session.onConnect.subscribe(() => {
    console.log("open");
    if (!isServer) {
      const lines = readline.createInterface({ input: process.stdin });
      lines.on("line", (line) => session.send(Buffer.from(line)));
      lines.on("close", () => process.exit(0)); // It has no goodbye.
    }
  });
  if (!isServer) await session.connect();
});
