// A service that knows nothing of idempotency keys: each request charges once more.

const { createServer } = require("node:http");

let charges = 0;

const server = createServer((request, response) => {
  request.resume().on("end", () => {
    charges += 1;
    response.writeHead(201).end(`charge ${charges}`);
  });
});

server.listen(0, "127.0.0.1", () => {
  console.log(`127.0.0.1:${server.address().port}`);
});
