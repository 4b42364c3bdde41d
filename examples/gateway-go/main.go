// A gateway between browsers and avion-media: HTTP and JSON for pages, gRPC with TLS and a token for the service.
// README.md says how to build and run it. The routes are those of all gateways in this folder (../README.md).

// Patterns with methods, also without a go.mod:
//
//go:debug httpmuxgo121=0
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	media "gateway/media"
)

const (
	callTimeout  = 5 * time.Second
	watchTimeout = 10 * time.Minute // then the browser's EventSource connects again
	maxBody      = 1 << 20

	// The library repeats a call that ends with UNAVAILABLE, within the call's deadline and after the pause that the
	// service asks for. All methods of the service may be repeated.
	retries = `{"methodConfig": [{
		"name": [{"service": "avion.MediaService"}],
		"retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE"]}
	}]}`
)

var httpStatus = map[codes.Code]int{
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.NotFound:           http.StatusNotFound,
	codes.FailedPrecondition: http.StatusConflict,
	codes.ResourceExhausted:  http.StatusTooManyRequests,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.DeadlineExceeded:   http.StatusGatewayTimeout,
}

// bearer sends a token with every call, and only over TLS.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// open connects to the service, with one authority to trust.
func open() (*grpc.ClientConn, error) {
	tls, err := credentials.NewClientTLSFromFile(os.Getenv("AVION_MEDIA_CLIENT__TLS_CA"), "")
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(os.Getenv("AVION_MEDIA_CLIENT__TOKEN_FILE"))
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(
		os.Getenv("AVION_MEDIA_CLIENT__ADDRESS"),
		grpc.WithTransportCredentials(tls),
		grpc.WithPerRPCCredentials(bearer(strings.TrimSpace(string(token)))),
		grpc.WithDefaultServiceConfig(retries),
	)
}

type gateway struct {
	media  media.MediaServiceClient
	origin string // where browsers get media: the CDN, or the origin itself
}

type object = map[string]any

// begin is createMultipartUpload for a large file, getUploadParameters for a small one.
func (g gateway) begin(ctx context.Context, r *http.Request) (any, error) {
	var file struct {
		Filename string
		Type     string
		Size     int64
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(&file); err != nil {
		return nil, status.Error(codes.InvalidArgument, "expected a JSON object with filename, type and size")
	}
	limits, err := g.media.GetCapabilities(ctx, &media.GetCapabilitiesRequest{})
	if err != nil {
		return nil, err
	}
	granted, err := g.media.RequestMediaUpload(ctx, &media.RequestMediaUploadRequest{
		Filename:    file.Filename,
		ContentType: file.Type,
		Size:        file.Size,
		Owner:       ownerOf(r),
		Multipart:   limits.Multipart && file.Size > limits.MultipartThreshold,
	})
	if err != nil {
		return nil, err
	}
	if granted.UploadId != "" {
		return object{"key": granted.MediaId, "uploadId": granted.UploadId, "partSize": granted.PartSize}, nil
	}
	return object{
		"key": granted.MediaId, "method": "PUT", "url": granted.UploadUrl, "headers": granted.UploadHeaders,
	}, nil
}

// listParts returns what the store has.
func (g gateway) listParts(ctx context.Context, r *http.Request) (any, error) {
	signed, err := g.sign(ctx, r)
	if err != nil {
		return nil, err
	}
	stored := []object{}
	for _, part := range signed.Parts {
		if part.Stored {
			stored = append(stored, object{"PartNumber": part.Number, "Size": part.Size, "ETag": part.Etag})
		}
	}
	return stored, nil
}

// signPart also says whether the store has this part already, and only its response was lost.
func (g gateway) signPart(ctx context.Context, r *http.Request) (any, error) {
	number, err := strconv.ParseInt(r.PathValue("number"), 10, 32)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "expected the number of a part")
	}
	signed, err := g.sign(ctx, r, int32(number))
	if err != nil {
		return nil, err
	}
	part := signed.Parts[0]
	return object{"url": part.Url, "headers": part.Headers, "stored": part.Stored, "etag": part.Etag}, nil
}

func (g gateway) sign(ctx context.Context, r *http.Request, numbers ...int32) (*media.SignUploadPartsResponse, error) {
	return g.media.SignUploadParts(ctx, &media.SignUploadPartsRequest{
		MediaId: r.PathValue("key"), UploadId: r.FormValue("uploadId"), Numbers: numbers,
	})
}

// complete is completeMultipartUpload, and what follows a single PUT.
func (g gateway) complete(ctx context.Context, r *http.Request) (any, error) {
	key := r.PathValue("key")
	_, err := g.media.CompleteMediaUpload(ctx, &media.CompleteMediaUploadRequest{
		MediaId: key, UploadId: r.FormValue("uploadId"),
	})
	return object{"location": g.origin + "/media/" + key}, err
}

// abort is abortMultipartUpload.
func (g gateway) abort(ctx context.Context, r *http.Request) (any, error) {
	_, err := g.media.AbortMediaUpload(ctx, &media.AbortMediaUploadRequest{
		MediaId: r.PathValue("key"), UploadId: r.FormValue("uploadId"),
	})
	return nil, err
}

// watch sends the states of a media item as server-sent events. The last one is final.
func (g gateway) watch(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), watchTimeout)
	defer cancel()
	stream, err := g.media.WatchMediaStatus(ctx, &media.GetMediaStatusRequest{MediaId: r.PathValue("key")})
	if err != nil {
		refuse(w, err)
		return
	}
	for begun := false; ; begun = true {
		state, err := stream.Recv()
		if err != nil {
			if !begun {
				refuse(w, err)
			}
			return // the browser connects again
		}
		if !begun {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
		}
		encoded, _ := json.Marshal(g.describe(state))
		fmt.Fprintf(w, "data: %s\n\n", encoded)
		http.NewResponseController(w).Flush()
	}
}

// reasons returns, for each reason of a failure, a sentence for the person who uploaded the file.
func (g gateway) reasons(ctx context.Context, _ *http.Request) (any, error) {
	service, err := g.media.GetCapabilities(ctx, &media.GetCapabilitiesRequest{})
	if err != nil {
		return nil, err
	}
	sentences := map[string]string{}
	for _, each := range service.Reasons {
		sentences[each.Code] = each.Sentence
	}
	return sentences, nil
}

func (g gateway) describe(state *media.MediaStatus) object {
	thumbnails := map[string]string{}
	for size, path := range state.Thumbnails {
		thumbnails[size] = g.origin + path
	}
	return object{
		"state":      state.State.String(),
		"reason":     state.Reason,
		"retryable":  state.Retryable,
		"width":      state.Width,
		"height":     state.Height,
		"thumbnails": thumbnails,
	}
}

// ownerOf says who uploads. Put your own session here: a user who is not logged in must not get here.
func ownerOf(r *http.Request) string { return cmp.Or(r.Header.Get("X-User"), "alice") }

// call makes a handler of a function: with a deadline, and with its result or error as the response.
func call(answer func(context.Context, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		body, err := answer(ctx, r)
		switch {
		case err != nil:
			refuse(w, err)
		case body == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			reply(w, http.StatusOK, body)
		}
	}
}

// refuse turns an error of the service into one of HTTP: reasons for programs, a sentence for people, Retry-After.
func refuse(w http.ResponseWriter, err error) {
	refused := status.Convert(err)
	code, known := httpStatus[refused.Code()]
	body := object{"error": refused.Message()}
	if !known {
		code, body = http.StatusBadGateway, object{"error": "the media service refused the call"}
	}
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			fields := map[string]string{}
			for _, each := range detail.FieldViolations {
				fields[each.Field] = each.Description // Debian's package is older than each.Reason, the stable code
			}
			body["fields"] = fields
		case *errdetails.ErrorInfo:
			body["reason"] = detail.Reason
		case *errdetails.RetryInfo:
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(detail.RetryDelay.AsDuration().Seconds()))))
		}
	}
	reply(w, code, body)
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func main() {
	connection, err := open()
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	g := gateway{media.NewMediaServiceClient(connection), cmp.Or(os.Getenv("ORIGIN_URL"), "http://127.0.0.1:8080")}
	http.HandleFunc("POST /uploads", call(g.begin))
	http.HandleFunc("DELETE /uploads/{key}", call(g.abort))
	http.HandleFunc("GET /uploads/{key}/parts", call(g.listParts))
	http.HandleFunc("GET /uploads/{key}/parts/{number}", call(g.signPart))
	http.HandleFunc("POST /uploads/{key}/complete", call(g.complete))
	http.HandleFunc("GET /uploads/{key}/events", g.watch)
	http.HandleFunc("GET /reasons", call(g.reasons))
	http.Handle("/", http.FileServer(http.Dir(cmp.Or(os.Getenv("PAGE"), "../web/dist"))))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+cmp.Or(os.Getenv("PORT"), "8000"), nil))
}
