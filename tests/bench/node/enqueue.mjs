// Adds jobs to BullMQ's queue.
// usage: node enqueue.mjs <redis port> <content type> <key> [<key> ...]
import { Queue } from "bullmq";

const [port, contentType, ...keys] = process.argv.slice(2);
const queue = new Queue("bench", { connection: { host: "127.0.0.1", port: Number(port) } });
await queue.addBulk(keys.map((key) => ({ name: "image", data: { key, contentType } })));
await queue.close();
