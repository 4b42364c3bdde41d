// Package client is a client of avion-media: uploads that resume, statuses, deletion, errors as types.
package client

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"avion.example/media/client/mediapb"
)

const joinTimeout = time.Minute // the least deadline of a call in which the store joins parts

// All methods of the service may be repeated.
const retries = `{"methodConfig": [{
	"name": [{"service": "avion.MediaService"}],
	"retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]}
}]}`

// Pauses between attempts to send bytes that the store did not take.
var pauses = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

var thisMachine = regexp.MustCompile(`^(unix(-abstract)?:.+|(dns:(///)?)?(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?)$`)

// Options of New. Without TLSCA there is no TLS.
type Options struct {
	TLSCA       []byte        // the certificates (PEM) of the authority that signed the service's
	Token       string        // what names the caller; only over TLS, or to this machine, else New returns an error
	CallTimeout time.Duration // of each call without a deadline of its own; 10 s by default
	// StoreTimeout ends an attempt to send bytes when for so long the store takes no byte and answers nothing; 30 s by default.
	StoreTimeout time.Duration
}

// Client makes the calls of the service, with deadlines; their errors are *Error. Goroutines may share it.
type Client struct {
	mediapb.MediaServiceClient
	connection *grpc.ClientConn
	store      *http.Client
	timeout    time.Duration // of a call
	patience   time.Duration // with a store that does not move
}

// UploadInParts is what has to be kept to go on with an upload in parts, also in another process.
type UploadInParts struct{ MediaID, UploadID string }

// Upload says what is uploaded.
type Upload struct {
	Path        string
	ContentType string
	Filename    string // by default that of Path
	Owner       string
	Visibility  mediapb.MediaVisibility // by default public
	// Progress is called with the bytes that the store has or was sent, and the size of the file.
	Progress func(sent, size int64)
	// Begun is called before the first byte of an upload in parts. Keep what it gets.
	Begun func(UploadInParts) error
	// Resume is what Begun got: only what the store does not have is sent.
	Resume *UploadInParts
	// Request has other fields of the request.
	Request *mediapb.RequestMediaUploadRequest
}

type bearer struct {
	token string
	tls   bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.tls }

// New returns a client of the service at an address. It connects with the first call.
func New(address string, options Options) (*Client, error) {
	if options.Token != "" && options.TLSCA == nil && !thisMachine.MatchString(address) {
		return nil, fmt.Errorf("a token needs TLS to %s: pass TLSCA, or set AVION_MEDIA_CLIENT__TLS_CA", address)
	}
	timeout := cmp.Or(options.CallTimeout, 10*time.Second)
	transport := insecure.NewCredentials()
	if options.TLSCA != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(options.TLSCA) {
			return nil, errors.New("no certificate in TLSCA")
		}
		transport = credentials.NewClientTLSFromCert(pool, "")
	}
	limited := func(ctx context.Context, method string, request, response any, connection *grpc.ClientConn,
		invoke grpc.UnaryInvoker, more ...grpc.CallOption) error {
		if _, has := ctx.Deadline(); !has {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		return errorOf(invoke(ctx, method, request, response, connection, more...), method)
	}
	dialing := []grpc.DialOption{
		grpc.WithTransportCredentials(transport), grpc.WithDefaultServiceConfig(retries), grpc.WithUnaryInterceptor(limited),
	}
	if options.Token != "" {
		dialing = append(dialing, grpc.WithPerRPCCredentials(bearer{options.Token, options.TLSCA != nil}))
	}
	connection, err := grpc.NewClient(address, dialing...)
	if err != nil {
		return nil, err
	}
	store := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	patience := cmp.Or(options.StoreTimeout, 30*time.Second)
	return &Client{mediapb.NewMediaServiceClient(connection), connection, store, timeout, patience}, nil
}

// FromEnvironment returns a client by AVION_MEDIA_CLIENT__ADDRESS, __TLS_CA and __TOKEN_FILE. Without an address
// AVION_MEDIA_GRPC__BIND counts, which the line `export …` of `make demo` sets. The times are those of options.
func FromEnvironment(options Options) (*Client, error) {
	options.TLSCA, options.Token = nil, os.Getenv("AVION_MEDIA_CLIENT__TOKEN")
	if path := os.Getenv("AVION_MEDIA_CLIENT__TLS_CA"); path != "" {
		ca, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		options.TLSCA = ca
	}
	if path := os.Getenv("AVION_MEDIA_CLIENT__TOKEN_FILE"); path != "" {
		tokens, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		options.Token, _, _ = strings.Cut(strings.TrimSpace(string(tokens)), "\n")
	}
	address := cmp.Or(os.Getenv("AVION_MEDIA_CLIENT__ADDRESS"), os.Getenv("AVION_MEDIA_GRPC__BIND"), "127.0.0.1:50051")
	return New(address, options)
}

// Close ends its connection.
func (c *Client) Close() error { return c.connection.Close() }

// Watch calls each with every status of a media item; the last one is final. Of a media item that is READY it is the
// only one.
func (c *Client) Watch(ctx context.Context, mediaID string, each func(*mediapb.MediaStatus)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	statuses, err := c.WatchMediaStatus(ctx, &mediapb.GetMediaStatusRequest{MediaId: mediaID})
	for err == nil {
		var status *mediapb.MediaStatus
		if status, err = statuses.Recv(); err == nil {
			each(status)
		}
	}
	if err == io.EOF {
		return nil
	}
	return errorOf(err, mediapb.MediaService_WatchMediaStatus_FullMethodName)
}

// Wait returns the status of a media item when it is READY, also through outages of the service, until ctx ends. Its
// errors: *Failed, whose Sentence is for the person who uploaded it, ErrDeleted, and those of calls.
func (c *Client) Wait(ctx context.Context, mediaID string) (*mediapb.MediaStatus, error) {
	for {
		var last *mediapb.MediaStatus
		err := c.Watch(ctx, mediaID, func(status *mediapb.MediaStatus) { last = status })
		if failed := (*Error)(nil); errors.Is(err, ErrUnavailable) && errors.As(err, &failed) {
			if stopped := sleep(ctx, failed.RetryAfter); stopped != nil {
				return nil, err
			}
			continue
		}
		switch {
		case err != nil:
			return nil, err
		case last.GetState() == mediapb.MediaStatus_READY:
			return last, nil
		case last.GetState() == mediapb.MediaStatus_DELETED:
			return nil, ErrDeleted
		}
		allowed, err := c.GetCapabilities(ctx, &mediapb.GetCapabilitiesRequest{})
		if err != nil {
			return nil, err
		}
		found := &Failed{last.GetReason(), fmt.Sprintf("This file cannot be published (%s).", last.GetReason()), last.GetRetryable()}
		for _, each := range allowed.Reasons {
			if each.Code == found.Reason {
				found.Sentence = each.Sentence
			}
		}
		return nil, found
	}
}

// Upload sends a file to the store, and says that it is there. It returns the media id, for Wait.
//
// A file above the service's threshold goes in parts. With Resume, an upload that is complete already is left as it is,
// and one that is gone begins again. If the store does not take the bytes after some attempts, the error is ErrStore.
// If a replica of an earlier version would make private media public, it is ErrUnavailable; if the file has not the size
// of the upload in Resume, ErrFileChanged. Then nothing is sent. A media id beside an error means that the file is in the
// store, and Complete may be repeated instead.
func (c *Client) Upload(ctx context.Context, upload Upload) (string, error) {
	file, err := os.Open(upload.Path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	about, err := file.Stat()
	if err != nil {
		return "", err
	}
	sending := sending{c, file, about.Size(), upload.Progress}
	if upload.Resume != nil {
		if mediaID, err := sending.resume(ctx, *upload.Resume); mediaID != "" || err != nil {
			return mediaID, err
		}
	}
	allowed, err := c.GetCapabilities(ctx, &mediapb.GetCapabilitiesRequest{})
	if err != nil {
		return "", err
	}
	request := upload.Request
	if request == nil {
		request = &mediapb.RequestMediaUploadRequest{}
	}
	request.Filename = cmp.Or(upload.Filename, filepath.Base(upload.Path))
	request.ContentType, request.Size, request.Owner = upload.ContentType, sending.size, upload.Owner
	request.Visibility = upload.Visibility
	request.Multipart = allowed.Multipart && sending.size > allowed.MultipartThreshold
	granted, err := c.RequestMediaUpload(ctx, request)
	if err != nil {
		return "", err
	}
	if upload.Visibility > mediapb.MediaVisibility_MEDIA_VISIBILITY_PUBLIC && granted.Visibility != upload.Visibility {
		const problem = "this replica does not know private media"
		return "", &Error{Method: "RequestMediaUpload", Code: codes.Unavailable, Message: problem, RetryAfter: time.Second}
	}
	if granted.UploadId == "" {
		whole := &mediapb.UploadPart{Size: sending.size, Url: granted.UploadUrl, Headers: granted.UploadHeaders}
		err = sending.whole(ctx, whole)
	} else {
		begun := UploadInParts{granted.MediaId, granted.UploadId}
		if upload.Begun != nil {
			err = upload.Begun(begun)
		}
		if err == nil {
			err = sending.parts(ctx, begun)
		}
	}
	if err != nil {
		return "", err
	}
	return granted.MediaId, c.Complete(ctx, UploadInParts{granted.MediaId, granted.UploadId})
}

// Complete says that the file is in the store, which joins its parts. It may be repeated. A file that did not go in parts
// has no UploadID.
func (c *Client) Complete(ctx context.Context, upload UploadInParts) error {
	if _, has := ctx.Deadline(); !has && upload.UploadID != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(joinTimeout, c.timeout))
		defer cancel()
	}
	request := &mediapb.CompleteMediaUploadRequest{MediaId: upload.MediaID, UploadId: upload.UploadID}
	_, err := c.CompleteMediaUpload(ctx, request)
	return err
}

// Deletion has the options of Delete.
type Deletion struct {
	Owner string               // media of others stay; empty: any owner
	Delay *durationpb.Duration // until the files go; nil: the service's DELETE__DELAY, which is also the most
}

// Delete deletes media: nobody sees them any more when it returns. It returns the ids that are not of the owner. It may
// be repeated.
func (c *Client) Delete(ctx context.Context, deletion Deletion, mediaIDs ...string) ([]string, error) {
	request := &mediapb.DeleteMediaRequest{MediaIds: mediaIDs, Owner: deletion.Owner, Delay: deletion.Delay}
	response, err := c.DeleteMedia(ctx, request)
	return response.GetNotOwned(), err
}
