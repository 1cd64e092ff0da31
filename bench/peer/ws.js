// ws on node: a loop of sends.
const { WebSocketServer, WebSocket } = require("ws");
const server = new WebSocketServer({ port: +process.argv[2], host: "127.0.0.1", perMessageDeflate: false, backlog: 4096 });
server.on("connection", (socket) => {
  socket.on("message", (data) => {
    for (const other of server.clients)
      if (other !== socket && other.readyState === WebSocket.OPEN) other.send(data, { binary: false });
  });
});
