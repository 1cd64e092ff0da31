// socket.io on node, WebSocket transport.
const http = require("http").createServer();
const { Server } = require("socket.io");
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false });
io.on("connection", (socket) => socket.on("m", (text) => socket.broadcast.emit("m", text)));
http.listen({ port: +process.argv[2], host: "127.0.0.1", backlog: 4096 });
