// gRPC's interoperability cases by grpc-java, and one JSON object of how each ended.  Cases.java ADDRESS
//
// Messages are written and read by hand (`Message`), since Debian has grpc-java without its code generator.

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

public class Cases {
    static final int[] INPUT_SIZES = {27182, 8, 1828, 45904};
    static final int[] OUTPUT_SIZES = {31415, 9, 2653, 58979};
    static final String SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \ud83d\ude08\t\n";
    static final Metadata.Key<String> INITIAL =
            Metadata.Key.of("x-grpc-test-echo-initial", Metadata.ASCII_STRING_MARSHALLER);
    static final Metadata.Key<byte[]> TRAILING =
            Metadata.Key.of("x-grpc-test-echo-trailing-bin", Metadata.BINARY_BYTE_MARSHALLER);
    static final byte[] TRAILING_VALUE = {(byte) 0xab, (byte) 0xab, (byte) 0xab};

    interface Case {
        void run(Channel channel) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("empty_unary", channel -> unary(channel, "EmptyCall", new byte[0], CallOptions.DEFAULT));
        cases.put("large_unary", channel -> largeUnary(channel, false, CallOptions.DEFAULT));
        cases.put("client_compressed_unary", channel -> largeUnary(channel, false, gzip()));
        cases.put("server_compressed_unary", channel -> largeUnary(channel, true, CallOptions.DEFAULT));
        cases.put("client_streaming", channel -> clientStreaming(channel, CallOptions.DEFAULT));
        cases.put("client_compressed_streaming", channel -> clientStreaming(channel, gzip()));
        cases.put("server_streaming", channel -> serverStreaming(channel, false));
        cases.put("server_compressed_streaming", channel -> serverStreaming(channel, true));
        cases.put("ping_pong", Cases::pingPong);
        cases.put("empty_stream", channel -> new Duplex(channel, CallOptions.DEFAULT).end());
        cases.put("custom_metadata", Cases::customMetadata);
        cases.put("status_code_and_message", Cases::statusCodeAndMessage);
        cases.put("special_status_message", channel -> unaryWithStatus(channel, SPECIAL));
        cases.put("unimplemented_method", channel -> fails(Status.Code.UNIMPLEMENTED, () ->
                unary(channel, "UnimplementedCall", new byte[0], CallOptions.DEFAULT)));
        cases.put("unimplemented_service", channel -> fails(Status.Code.UNIMPLEMENTED, () ->
                ClientCalls.blockingUnaryCall(channel,
                        method("grpc.testing.UnimplementedService/UnimplementedCall", MethodType.UNARY),
                        CallOptions.DEFAULT, new byte[0])));
        cases.put("cancel_after_begin", Cases::cancelAfterBegin);
        cases.put("cancel_after_first_response", Cases::cancelAfterFirstResponse);
        cases.put("timeout_on_sleeping_server", Cases::timeoutOnSleepingServer);

        ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
        StringBuilder results = new StringBuilder();
        for (Map.Entry<String, Case> each : cases.entrySet()) {
            String result = "passed";
            try {
                each.getValue().run(channel);
            } catch (Throwable failure) {
                result = failure.toString().replaceAll("[^ -~]|[\"\\\\]", " ");
            }
            results.append(String.format("%s\"%s\": \"%s\"", results.length() == 0 ? "" : ", ", each.getKey(), result));
        }
        System.out.println("{" + results + "}");
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }

    // -- The cases

    static void largeUnary(Channel channel, boolean compressed, CallOptions options) throws IOException {
        byte[] request = new Message().number(2, 314159).bytes(3, payload(271828))
                .bytes(6, new Message().number(1, compressed ? 1 : 0).done()).done();
        same(body(unary(channel, "UnaryCall", request, options)).length, 314159);
    }

    static void clientStreaming(Channel channel, CallOptions options) throws Exception {
        Responses responses = new Responses();
        StreamObserver<byte[]> requests = ClientCalls.asyncClientStreamingCall(
                channel.newCall(of("StreamingInputCall", MethodType.CLIENT_STREAMING), options), responses);
        for (int size : INPUT_SIZES) {
            requests.onNext(new Message().bytes(1, payload(size)).done());
        }
        requests.onCompleted();
        same(Message.number(responses.next(), 1), 74922L);
        responses.expectEnd();
    }

    static void serverStreaming(Channel channel, boolean compressed) throws IOException {
        Message request = new Message();
        for (int index = 0; index < OUTPUT_SIZES.length; index++) {
            request.bytes(2, new Message().number(1, OUTPUT_SIZES[index])
                    .bytes(3, new Message().number(1, compressed && index % 2 == 0 ? 1 : 0).done()).done());
        }
        Iterator<byte[]> responses = ClientCalls.blockingServerStreamingCall(channel,
                of("StreamingOutputCall", MethodType.SERVER_STREAMING), CallOptions.DEFAULT, request.done());
        for (int size : OUTPUT_SIZES) {
            same(body(responses.next()).length, size);
        }
        same(responses.hasNext(), false);
    }

    static void pingPong(Channel channel) throws Exception {
        Duplex stream = new Duplex(channel, CallOptions.DEFAULT);
        for (int index = 0; index < OUTPUT_SIZES.length; index++) {
            stream.ask(OUTPUT_SIZES[index], INPUT_SIZES[index]);
        }
        stream.end();
    }

    static void customMetadata(Channel plain) throws Exception {
        Metadata sent = new Metadata();
        sent.put(INITIAL, "test_initial_metadata_value");
        sent.put(TRAILING, TRAILING_VALUE);
        AtomicReference<Metadata> headers = new AtomicReference<>();
        AtomicReference<Metadata> trailers = new AtomicReference<>();
        Channel channel = ClientInterceptors.intercept(plain, MetadataUtils.newAttachHeadersInterceptor(sent),
                MetadataUtils.newCaptureMetadataInterceptor(headers, trailers));
        unary(channel, "UnaryCall", new Message().number(2, 1).bytes(3, payload(1)).done(), CallOptions.DEFAULT);
        expectEcho(headers.get(), trailers.get());
        Duplex stream = new Duplex(channel, CallOptions.DEFAULT);
        stream.ask(1, 1);
        stream.end();
        expectEcho(headers.get(), trailers.get());
    }

    static void expectEcho(Metadata headers, Metadata trailers) {
        same(headers.get(INITIAL), "test_initial_metadata_value");
        same(Arrays.equals(trailers.get(TRAILING), TRAILING_VALUE), true);
    }

    static void unaryWithStatus(Channel channel, String message) throws Exception {
        Status status = fails(Status.Code.UNKNOWN, () ->
                unary(channel, "UnaryCall", new Message().bytes(7, echoed(message)).done(), CallOptions.DEFAULT));
        same(status.getDescription(), message);
    }

    static void statusCodeAndMessage(Channel channel) throws Exception {
        unaryWithStatus(channel, "test status message");
        Duplex stream = new Duplex(channel, CallOptions.DEFAULT);
        stream.requests.onNext(new Message().bytes(7, echoed("test status message")).done());
        Status status = stream.responses.failure();
        same(status.getCode(), Status.Code.UNKNOWN);
        same(status.getDescription(), "test status message");
    }

    static void cancelAfterBegin(Channel channel) throws Exception {
        Responses responses = new Responses();
        ClientCall<byte[], byte[]> call =
                channel.newCall(of("StreamingInputCall", MethodType.CLIENT_STREAMING), CallOptions.DEFAULT);
        ClientCalls.asyncClientStreamingCall(call, responses);
        call.cancel("as the case wants it", null);
        same(responses.failure().getCode(), Status.Code.CANCELLED);
    }

    static void cancelAfterFirstResponse(Channel channel) throws Exception {
        Duplex stream = new Duplex(channel, CallOptions.DEFAULT);
        stream.ask(31415, 27182);
        stream.call.cancel("as the case wants it", null);
        same(stream.responses.failure().getCode(), Status.Code.CANCELLED);
    }

    static void timeoutOnSleepingServer(Channel channel) throws Exception {
        Duplex stream = new Duplex(channel, CallOptions.DEFAULT.withDeadlineAfter(1, TimeUnit.MILLISECONDS));
        try {
            stream.requests.onNext(new Message().bytes(3, payload(27182)).done());
        } catch (IllegalStateException late) {
            // The deadline has passed already.
        }
        same(stream.responses.failure().getCode(), Status.Code.DEADLINE_EXCEEDED);
    }

    // -- Calls

    static CallOptions gzip() {
        return CallOptions.DEFAULT.withCompression("gzip");
    }

    static MethodDescriptor<byte[], byte[]> of(String name, MethodType type) {
        return method("grpc.testing.TestService/" + name, type);
    }

    static MethodDescriptor<byte[], byte[]> method(String path, MethodType type) {
        return MethodDescriptor.<byte[], byte[]>newBuilder().setFullMethodName(path).setType(type)
                .setRequestMarshaller(new Raw()).setResponseMarshaller(new Raw()).build();
    }

    static byte[] unary(Channel channel, String name, byte[] request, CallOptions options) {
        return ClientCalls.blockingUnaryCall(channel, of(name, MethodType.UNARY), options, request);
    }

    static Status fails(Status.Code code, Runnable call) {
        try {
            call.run();
        } catch (StatusRuntimeException error) {
            same(error.getStatus().getCode(), code);
            return error.getStatus();
        }
        throw new AssertionError("it did not fail with " + code);
    }

    static class Raw implements MethodDescriptor.Marshaller<byte[]> {
        public InputStream stream(byte[] value) {
            return new ByteArrayInputStream(value);
        }

        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException error) {
                throw new AssertionError(error);
            }
        }
    }

    static class Responses implements StreamObserver<byte[]> {
        final LinkedBlockingQueue<Object> arrived = new LinkedBlockingQueue<>();

        public void onNext(byte[] response) {
            arrived.add(response);
        }

        public void onError(Throwable error) {
            arrived.add(Status.fromThrowable(error));
        }

        public void onCompleted() {
            arrived.add(Status.OK);
        }

        byte[] next() throws InterruptedException {
            return (byte[]) take();
        }

        Status failure() throws InterruptedException {
            return (Status) take();
        }

        void expectEnd() throws InterruptedException {
            same(take(), Status.OK);
        }

        private Object take() throws InterruptedException {
            return arrived.poll(10, TimeUnit.SECONDS);
        }
    }

    static class Duplex {
        final ClientCall<byte[], byte[]> call;
        final Responses responses = new Responses();
        final StreamObserver<byte[]> requests;

        Duplex(Channel channel, CallOptions options) {
            call = channel.newCall(of("FullDuplexCall", MethodType.BIDI_STREAMING), options);
            requests = ClientCalls.asyncBidiStreamingCall(call, responses);
        }

        void ask(int responseSize, int size) throws Exception {
            requests.onNext(new Message().bytes(2, new Message().number(1, responseSize).done())
                    .bytes(3, payload(size)).done());
            same(body(responses.next()).length, responseSize);
        }

        void end() throws InterruptedException {
            requests.onCompleted();
            responses.expectEnd();
        }
    }

    // -- Messages

    static byte[] payload(int size) {
        return new Message().bytes(2, new byte[size]).done();
    }

    static byte[] echoed(String message) {
        return new Message().number(1, 2).bytes(2, message.getBytes(StandardCharsets.UTF_8)).done();
    }

    static byte[] body(byte[] response) throws IOException {
        return Message.bytes(Message.bytes(response, 1), 2);
    }

    static class Message {
        private final ByteArrayOutputStream written = new ByteArrayOutputStream();

        Message number(int field, int value) {
            varint(field << 3);
            varint(value);
            return this;
        }

        Message bytes(int field, byte[] value) {
            varint(field << 3 | 2);
            varint(value.length);
            written.writeBytes(value);
            return this;
        }

        byte[] done() {
            return written.toByteArray();
        }

        private void varint(int value) {
            for (; value > 0x7f; value >>>= 7) {
                written.write(value & 0x7f | 0x80);
            }
            written.write(value);
        }

        static byte[] bytes(byte[] message, int field) throws IOException {
            return (byte[]) find(message, field, new byte[0]);
        }

        static long number(byte[] message, int field) throws IOException {
            return (Long) find(message, field, 0L);
        }

        private static Object find(byte[] message, int field, Object missing) throws IOException {
            ByteArrayInputStream rest = new ByteArrayInputStream(message);
            Object found = missing;
            while (rest.available() > 0) {
                long tag = varint(rest);
                Object value = varint(rest);
                if ((tag & 7) == 2) {
                    value = rest.readNBytes(((Long) value).intValue());
                }
                found = tag >> 3 == field ? value : found;
            }
            return found;
        }

        private static long varint(InputStream from) throws IOException {
            long value = 0;
            for (int shift = 0; ; shift += 7) {
                int next = from.read();
                value |= (long) (next & 0x7f) << shift;
                if (next < 0x80) {
                    return value;
                }
            }
        }
    }

    static void same(Object found, Object expected) {
        if (!expected.equals(found)) {
            throw new AssertionError(found + " instead of " + expected);
        }
    }
}
