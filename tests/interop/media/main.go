// Calls of the media service by grpc-go, one JSON object per line in each direction.  client ADDRESS
package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"avion.example/media/client/mediapb"
)

type order struct {
	Method, Token string
	Request       json.RawMessage
}

type answer struct {
	Response json.RawMessage `json:"response,omitempty"`
	Status   []byte          `json:"status"` // serialized: Debian's package of its details lacks a field of theirs
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// made returns an empty message of the generated code.
func made(of protoreflect.MessageDescriptor) proto.Message {
	found, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	check(err)
	return found.New().Interface()
}

func call(connection *grpc.ClientConn, asked order) answer {
	method := mediapb.File_avion_media_proto.Services().ByName("MediaService").Methods().ByName(protoreflect.Name(asked.Method))
	request, response := made(method.Input()), made(method.Output())
	check(protojson.Unmarshal(asked.Request, request))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if asked.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+asked.Token)
	}
	err := connection.Invoke(ctx, "/avion.MediaService/"+asked.Method, request, response)
	ended, marshalling := proto.Marshal(status.Convert(err).Proto())
	check(marshalling)
	if err != nil {
		return answer{Status: ended}
	}
	text, err := protojson.Marshal(response)
	check(err)
	return answer{Response: text, Status: ended}
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer connection.Close()
	orders, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for orders.More() {
		var asked order
		check(orders.Decode(&asked))
		check(answers.Encode(call(connection, asked)))
	}
}
