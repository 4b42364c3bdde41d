// gRPC's interoperability cases by grpc-go, and one JSON object of how each ended.  client ADDRESS [ROUNDS]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	initialName  = "x-grpc-test-echo-initial"
	trailingName = "x-grpc-test-echo-trailing-bin"
	initialValue = "test_initial_metadata_value"
	special      = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
)

var (
	inputSizes    = []int{27182, 8, 1828, 45904}
	outputSizes   = []int32{31415, 9, 2653, 58979}
	trailingValue = "\xab\xab\xab"
)

type call struct {
	context.Context
	client  pb.TestServiceClient
	unknown pb.UnimplementedServiceClient
}

var cases = map[string]func(call) error{
	"empty_unary": func(c call) error {
		_, err := c.client.EmptyCall(c, &pb.Empty{})
		return err
	},
	"large_unary":             func(c call) error { return largeUnary(c, false) },
	"client_compressed_unary": func(c call) error { return largeUnary(c, false, grpc.UseCompressor(gzip.Name)) },
	"server_compressed_unary": func(c call) error { return largeUnary(c, true) },
	"client_streaming":        func(c call) error { return clientStreaming(c) },
	"client_compressed_streaming": func(c call) error {
		return clientStreaming(c, grpc.UseCompressor(gzip.Name))
	},
	"server_streaming":            func(c call) error { return serverStreaming(c, false) },
	"server_compressed_streaming": func(c call) error { return serverStreaming(c, true) },
	"ping_pong": func(c call) error {
		stream, err := c.client.FullDuplexCall(c)
		if err != nil {
			return err
		}
		for index, size := range outputSizes {
			if err := stream.Send(asking(size, inputSizes[index])); err != nil {
				return err
			}
			if err := next(stream, size); err != nil {
				return err
			}
		}
		return ended(stream)
	},
	"empty_stream": func(c call) error {
		stream, err := c.client.FullDuplexCall(c)
		if err != nil {
			return err
		}
		return ended(stream)
	},
	"custom_metadata": customMetadata,
	"status_code_and_message": func(c call) error {
		return bothWithStatus(c, "test status message")
	},
	"special_status_message": func(c call) error {
		return unaryWithStatus(c, special)
	},
	"unimplemented_method": func(c call) error {
		_, err := c.client.UnimplementedCall(c, &pb.Empty{})
		return expect(err, codes.Unimplemented)
	},
	"unimplemented_service": func(c call) error {
		_, err := c.unknown.UnimplementedCall(c, &pb.Empty{})
		return expect(err, codes.Unimplemented)
	},
	"cancel_after_begin": func(c call) error {
		ctx, cancel := context.WithCancel(c)
		stream, err := c.client.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		cancel()
		_, err = stream.CloseAndRecv()
		return expect(err, codes.Canceled)
	},
	"cancel_after_first_response": func(c call) error {
		ctx, cancel := context.WithCancel(c)
		defer cancel()
		stream, err := c.client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(asking(31415, 27182)); err != nil {
			return err
		}
		if err := next(stream, 31415); err != nil {
			return err
		}
		cancel()
		_, err = stream.Recv()
		return expect(err, codes.Canceled)
	},
	"timeout_on_sleeping_server": func(c call) error {
		ctx, cancel := context.WithTimeout(c, time.Millisecond)
		defer cancel()
		stream, err := c.client.FullDuplexCall(ctx)
		if err != nil {
			return expect(err, codes.DeadlineExceeded)
		}
		_ = stream.Send(&pb.StreamingOutputCallRequest{Payload: payload(27182)})
		_, err = stream.Recv()
		return expect(err, codes.DeadlineExceeded)
	},
}

type receiver interface {
	Recv() (*pb.StreamingOutputCallResponse, error)
}

func payload(size int) *pb.Payload { return &pb.Payload{Body: make([]byte, size)} }

func asking(responseSize int32, size int) *pb.StreamingOutputCallRequest {
	parameters := []*pb.ResponseParameters{{Size: responseSize}}
	return &pb.StreamingOutputCallRequest{ResponseParameters: parameters, Payload: payload(size)}
}

func largeUnary(c call, compressed bool, options ...grpc.CallOption) error {
	request := &pb.SimpleRequest{ResponseSize: 314159, Payload: payload(271828)}
	request.ResponseCompressed = &pb.BoolValue{Value: compressed}
	response, err := c.client.UnaryCall(c, request, options...)
	if err != nil {
		return err
	}
	return same(len(response.GetPayload().GetBody()), 314159)
}

func clientStreaming(c call, options ...grpc.CallOption) error {
	stream, err := c.client.StreamingInputCall(c, options...)
	if err != nil {
		return err
	}
	for _, size := range inputSizes {
		if err := stream.Send(&pb.StreamingInputCallRequest{Payload: payload(size)}); err != nil {
			return err
		}
	}
	response, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	return same(response.GetAggregatedPayloadSize(), int32(74922))
}

func serverStreaming(c call, compressed bool) error {
	request := &pb.StreamingOutputCallRequest{}
	for index, size := range outputSizes {
		parameters := &pb.ResponseParameters{Size: size, Compressed: &pb.BoolValue{Value: compressed && index%2 == 0}}
		request.ResponseParameters = append(request.ResponseParameters, parameters)
	}
	stream, err := c.client.StreamingOutputCall(c, request)
	if err != nil {
		return err
	}
	for _, size := range outputSizes {
		if err := next(stream, size); err != nil {
			return err
		}
	}
	_, err = stream.Recv()
	return same(err, io.EOF)
}

func customMetadata(c call) error {
	var header, trailer metadata.MD
	ctx := metadata.AppendToOutgoingContext(c, initialName, initialValue, trailingName, trailingValue)
	request := &pb.SimpleRequest{ResponseSize: 1, Payload: payload(1)}
	if _, err := c.client.UnaryCall(ctx, request, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		return err
	}
	if err := same(fmt.Sprint(header[initialName], trailer[trailingName]), fmt.Sprint([]string{initialValue}, []string{trailingValue})); err != nil {
		return err
	}
	stream, err := c.client.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(asking(1, 1)); err != nil {
		return err
	}
	if err := next(stream, 1); err != nil {
		return err
	}
	if err := ended(stream); err != nil {
		return err
	}
	if header, err = stream.Header(); err != nil {
		return err
	}
	return same(fmt.Sprint(header[initialName], stream.Trailer()[trailingName]), fmt.Sprint([]string{initialValue}, []string{trailingValue}))
}

func unaryWithStatus(c call, message string) error {
	_, err := c.client.UnaryCall(c, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: 2, Message: message}})
	return same(fmt.Sprintf("%q", status.Convert(err).Proto()), fmt.Sprintf("%q", status.New(codes.Unknown, message).Proto()))
}

func bothWithStatus(c call, message string) error {
	if err := unaryWithStatus(c, message); err != nil {
		return err
	}
	stream, err := c.client.FullDuplexCall(c)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.StreamingOutputCallRequest{ResponseStatus: &pb.EchoStatus{Code: 2, Message: message}}); err != nil {
		return err
	}
	_, err = stream.Recv()
	if err := expect(err, codes.Unknown); err != nil {
		return err
	}
	return same(status.Convert(err).Message(), message)
}

func next(stream receiver, size int32) error {
	response, err := stream.Recv()
	if err != nil {
		return err
	}
	if body := response.GetPayload().GetBody(); !bytes.Equal(body, make([]byte, size)) {
		return fmt.Errorf("%d bytes instead of %d", len(body), size)
	}
	return nil
}

func ended(stream pb.TestService_FullDuplexCallClient) error {
	if err := stream.CloseSend(); err != nil {
		return err
	}
	_, err := stream.Recv()
	return same(err, io.EOF)
}

func expect(err error, code codes.Code) error { return same(status.Code(err), code) }

func same[T comparable](found, expected T) error {
	if found != expected {
		return fmt.Errorf("%v instead of %v", found, expected)
	}
	return nil
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	rounds := 1
	if len(os.Args) > 2 {
		if rounds, err = strconv.Atoi(os.Args[2]); err != nil {
			panic(err)
		}
	}
	results := map[string]string{}
	for name, run := range cases {
		results[name] = "passed"
		for round := 0; round < rounds; round++ {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if err := run(call{ctx, pb.NewTestServiceClient(connection), pb.NewUnimplementedServiceClient(connection)}); err != nil {
				results[name] = err.Error()
			}
			cancel()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		panic(err)
	}
}
