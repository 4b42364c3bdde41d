// gRPC's interoperability cases by @grpc/grpc-js, and one JSON object of how each ended.  node cases.js ADDRESS
'use strict';
const assert = require('assert');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync(path.join(__dirname, '../proto/grpc/testing.proto'), { keepCase: true });
const { TestService, UnimplementedService } = grpc.loadPackageDefinition(definition).grpc.testing;
const credentials = grpc.credentials.createInsecure();
const client = new TestService(process.argv[2], credentials);
const gzip = { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip, 'grpc.use_local_subchannel_pool': 1 };
const compressing = new TestService(process.argv[2], credentials, gzip);
const unknown = new UnimplementedService(process.argv[2], credentials);

const INITIAL = 'x-grpc-test-echo-initial';
const TRAILING = 'x-grpc-test-echo-trailing-bin';
const SPECIAL = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
const INPUT_SIZES = [27182, 8, 1828, 45904];
const OUTPUT_SIZES = [31415, 9, 2653, 58979];
const { status } = grpc;
const payload = (size) => ({ body: Buffer.alloc(size) });
const inTime = (ms = 10000) => ({ deadline: Date.now() + ms });
const asking = (sizes, own = 0, compressed = false) => ({
  response_parameters: sizes.map((size, n) => ({ size, compressed: { value: compressed && n % 2 === 0 } })),
  payload: payload(own),
});

// What a unary call, or one with a stream of requests, ended with.
const ended = (start) =>
  new Promise((resolve) => {
    const result = {};
    const call = start((error, response) => Object.assign(result, { error, response }));
    call.on('metadata', (metadata) => { result.initial = metadata; });
    call.on('status', (status) => setImmediate(() => resolve({ ...result, ...status })));
  });
// The sizes of a stream's responses, and what it ended with; each is handed to `next`.
const drained = (call, next = () => {}) =>
  new Promise((resolve) => {
    const sizes = [];
    let initial;
    call.on('metadata', (metadata) => { initial = metadata; });
    call.on('data', (response) => { sizes.push(response.payload.body.length); next(sizes.length); });
    call.on('error', () => {});
    call.on('status', (status) => resolve({ sizes, initial, ...status }));
  });

async function largeUnary(caller, compressed) {
  const request = { response_size: 314159, payload: payload(271828), response_compressed: { value: compressed } };
  const { code, response } = await ended((done) => caller.UnaryCall(request, inTime(), done));
  assert.deepStrictEqual([code, response.payload.body.length], [status.OK, 314159]);
}
async function clientStreaming(caller) {
  const { code, response } = await ended((done) => {
    const call = caller.StreamingInputCall(inTime(), done);
    INPUT_SIZES.forEach((size) => call.write({ payload: payload(size) }));
    call.end();
    return call;
  });
  assert.deepStrictEqual([code, response.aggregated_payload_size], [status.OK, 74922]);
}
async function serverStreaming(compressed) {
  const call = client.StreamingOutputCall(asking(OUTPUT_SIZES, 0, compressed), inTime());
  const { code, sizes } = await drained(call);
  assert.deepStrictEqual([code, sizes], [status.OK, OUTPUT_SIZES]);
}
async function statuses(message) {
  const response_status = { code: 2, message };
  const unary = await ended((done) => client.UnaryCall({ response_status }, inTime(), done));
  const call = client.FullDuplexCall(inTime());
  const stream = drained(call);
  call.end({ response_status });
  for (const each of [unary, await stream]) {
    assert.deepStrictEqual([each.code, each.details], [status.UNKNOWN, message]);
  }
}

const CASES = {
  empty_unary: async () => {
    assert.strictEqual((await ended((done) => client.EmptyCall({}, inTime(), done))).code, status.OK);
  },
  large_unary: () => largeUnary(client, false),
  client_compressed_unary: () => largeUnary(compressing, false),
  server_compressed_unary: () => largeUnary(client, true),
  client_streaming: () => clientStreaming(client),
  client_compressed_streaming: () => clientStreaming(compressing),
  server_streaming: () => serverStreaming(false),
  server_compressed_streaming: () => serverStreaming(true),
  ping_pong: async () => {
    const call = client.FullDuplexCall(inTime());
    const write = (n) => (n < OUTPUT_SIZES.length ? call.write(asking([OUTPUT_SIZES[n]], INPUT_SIZES[n])) : call.end());
    const responses = drained(call, write);
    write(0);
    const { code, sizes } = await responses;
    assert.deepStrictEqual([code, sizes], [status.OK, OUTPUT_SIZES]);
  },
  empty_stream: async () => {
    const call = client.FullDuplexCall(inTime());
    const responses = drained(call);
    call.end();
    const { code, sizes } = await responses;
    assert.deepStrictEqual([code, sizes], [status.OK, []]);
  },
  custom_metadata: async () => {
    const sent = new grpc.Metadata();
    sent.set(INITIAL, 'test_initial_metadata_value');
    sent.set(TRAILING, Buffer.from([0xab, 0xab, 0xab]));
    const unary = await ended((done) => client.UnaryCall({ response_size: 1 }, sent, inTime(), done));
    const call = client.FullDuplexCall(sent, inTime());
    const stream = drained(call);
    call.end(asking([1]));
    for (const { code, initial, metadata } of [unary, await stream]) {
      assert.strictEqual(code, status.OK);
      assert.deepStrictEqual(initial.get(INITIAL), sent.get(INITIAL));
      assert.deepStrictEqual(metadata.get(TRAILING), sent.get(TRAILING));
    }
  },
  status_code_and_message: () => statuses('test status message'),
  special_status_message: () => statuses(SPECIAL),
  unimplemented_method: async () => {
    const { code } = await ended((done) => client.UnimplementedCall({}, inTime(), done));
    assert.strictEqual(code, status.UNIMPLEMENTED);
  },
  unimplemented_service: async () => {
    const { code } = await ended((done) => unknown.UnimplementedCall({}, inTime(), done));
    assert.strictEqual(code, status.UNIMPLEMENTED);
  },
  cancel_after_begin: async () => {
    const { code } = await ended((done) => {
      const call = client.StreamingInputCall(inTime(), done);
      setImmediate(() => call.cancel());
      return call;
    });
    assert.strictEqual(code, status.CANCELLED);
  },
  cancel_after_first_response: async () => {
    const call = client.FullDuplexCall(inTime());
    const responses = drained(call, () => call.cancel());
    call.write(asking([31415], 27182));
    const { code, sizes } = await responses;
    assert.deepStrictEqual([code, sizes], [status.CANCELLED, [31415]]);
  },
  timeout_on_sleeping_server: async () => {
    const call = client.FullDuplexCall(inTime(1));
    const responses = drained(call);
    call.write({ payload: payload(27182) });
    assert.strictEqual((await responses).code, status.DEADLINE_EXCEEDED);
  },
};

async function main() {
  const results = {};
  for (const [name, run] of Object.entries(CASES)) {
    results[name] = await run().then(() => 'passed', (error) => String(error));
  }
  console.log(JSON.stringify(results));
  [client, compressing, unknown].forEach((each) => each.close());
}

main();
