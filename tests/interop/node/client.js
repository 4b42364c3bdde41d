// Calls Echo by @grpc/grpc-js, and prints one JSON object of what it saw.  node client.js ADDRESS [CA.pem]
'use strict';
const fs = require('fs');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync(path.join(__dirname, '../proto/echo.proto'), { keepCase: true });
const { Echo } = grpc.loadPackageDefinition(definition).avion.test;
const [address, ca] = process.argv.slice(2);
const credentials = ca
  ? grpc.credentials.createSsl(fs.readFileSync(ca))
  : grpc.credentials.createInsecure();
const client = new Echo(address, credentials);
const inTime = (ms) => ({ deadline: Date.now() + ms });

const say = (request, ms = 10000, metadata = new grpc.Metadata()) =>
  new Promise((resolve) => {
    client.Say(request, metadata, inTime(ms), (error, response) => resolve(error || response));
  });

// All messages of a stream, and the code that it ended with.
const drained = (stream) =>
  new Promise((resolve) => {
    const texts = [];
    stream.on('data', (response) => texts.push(response.text));
    stream.on('error', () => {});
    stream.on('status', (status) => resolve({ texts, code: status.code }));
  });

async function main() {
  const metadata = new grpc.Metadata();
  metadata.set('traceparent', '00-1-2-03');
  const hello = await say({ text: 'hello', body: Buffer.alloc(2000000, 7) }, 10000, metadata);

  const refused = await say({ behaviour: 'refuse' });
  const late = await say({ behaviour: 'hang' }, 300);

  const repeated = await drained(client.Repeat({ text: 'r', count: 40, response_bytes: 50000 }, inTime(10000)));

  const endless = client.Repeat({ text: 'on', response_bytes: 50000 }, inTime(10000));
  const left = drained(endless);
  endless.once('data', () => endless.cancel());
  const cancelled = await left;

  const collected = await new Promise((resolve) => {
    const call = client.Collect(inTime(10000), (error, response) => resolve(error || response));
    for (let number = 0; number < 20; number++) call.write({ text: String(number), body: Buffer.alloc(50000) });
    call.end();
  });

  const chat = client.Chat(inTime(10000));
  const chatted = drained(chat);
  for (let number = 0; number < 5; number++) chat.write({ text: String(number) });
  chat.end();

  const many = await Promise.all(Array.from({ length: 300 }, (_, number) => say({ text: String(number) })));

  console.log(JSON.stringify({
    hello: [hello.text, hello.body && hello.body.length, hello.seen && hello.seen.traceparent],
    refused: [refused.code, refused.details, refused.metadata.get('grpc-status-details-bin').length],
    late: late.code,
    repeated: [repeated.code, repeated.texts.length, repeated.texts[39]],
    cancelled: cancelled.code,
    collected: [collected.text, collected.seen && collected.seen.bytes],
    chatted: await chatted,
    many: many.filter((response, number) => response.text === String(number)).length,
  }));
  client.close();
}

main();
