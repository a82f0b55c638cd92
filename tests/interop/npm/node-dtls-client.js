// A client on node-dtls-client, which knows pre-shared keys only.

const readline = require("readline");
const { dtls } = require("node-dtls-client");

const words = process.argv.slice(2);
const option = (name) => words[words.indexOf(name) + 1];
const [address, port] = words.at(-1).split(":");

const psk = { client: Buffer.from(option("-psk"), "hex").toString("latin1") };
const session = dtls.createSocket({ type: "udp4", address, port: Number(port), psk, timeout: 60000 });
session.on("error", (error) => {
  console.log("error", error);
  process.exit(1);
});
session.on("message", (message) => console.log(message.toString()));
session.on("connected", () => {
  console.log("open");
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", (line) => session.send(Buffer.from(line)));
  lines.on("close", () => session.close(() => process.exit(0)));
});
