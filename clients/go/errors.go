package client

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// What an error means; for errors.Is.
var (
	ErrInvalid     = errors.New("fields of the request are not valid")
	ErrNotFound    = errors.New("there is no such media item, or no such upload any more")
	ErrNotAllowed  = errors.New("the token is not valid, or its caller is not allowed to do this")
	ErrConflict    = errors.New("the media item is not in a state for this")
	ErrTooMany     = errors.New("too many unfinished uploads or calls")
	ErrUnavailable = errors.New("the service is unavailable, or did not answer in time")
	ErrStore       = errors.New("the object store did not take the bytes")
	ErrFileChanged = errors.New("the file has another size than the one with which the upload was begun")
	ErrDeleted     = errors.New("the media item was deleted")
)

var kinds = map[codes.Code]error{
	codes.InvalidArgument:    ErrInvalid,
	codes.NotFound:           ErrNotFound,
	codes.Unauthenticated:    ErrNotAllowed,
	codes.PermissionDenied:   ErrNotAllowed,
	codes.FailedPrecondition: ErrConflict,
	codes.ResourceExhausted:  ErrTooMany,
	codes.Unavailable:        ErrUnavailable,
	codes.DeadlineExceeded:   ErrUnavailable,
}

var sentences = map[error]string{
	ErrNotFound:    "This file is not there any more.",
	ErrFileChanged: "The file has changed. Please upload it again.",
	ErrDeleted:     "This file was deleted.",
}

// Error is a call that failed. docs/errors.md of the service names codes and reasons.
type Error struct {
	Method     string // such as GetMediaStatus
	Code       codes.Code
	Message    string
	Reason     string            // a stable code, such as NOTHING_UPLOADED; empty if there is none
	Fields     map[string]string // for each field that is not valid, its reason
	Sentence   string            // for the person who uploads; empty if the file is not at fault
	RetryAfter time.Duration     // how long to wait at least; 0 if another attempt makes no sense
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Method, e.Code, e.Message) }

// Unwrap returns one of the errors above, or nil.
func (e *Error) Unwrap() error { return kinds[e.Code] }

// Failed says that a file cannot be published.
type Failed struct {
	Reason    string
	Sentence  string // for the person who uploaded it
	Retryable bool   // the same file may be accepted at another time
}

func (f *Failed) Error() string { return f.Sentence }

// Sentence returns what to tell the person who uploads; empty if neither the file nor what became of it is the cause.
func Sentence(err error) string {
	if failed := (*Failed)(nil); errors.As(err, &failed) {
		return failed.Sentence
	}
	if failed := (*Error)(nil); errors.As(err, &failed) && failed.Sentence != "" {
		return failed.Sentence
	}
	for kind, sentence := range sentences {
		if errors.Is(err, kind) {
			return sentence
		}
	}
	return ""
}

// errorOf returns what a failed call of a method means; nil if it did not fail.
func errorOf(err error, method string) error {
	failed, isStatus := status.FromError(err)
	if err == nil || !isStatus {
		return err
	}
	found := &Error{Method: path.Base(method), Code: failed.Code(), Message: failed.Message()}
	if kind := kinds[found.Code]; kind == ErrTooMany || kind == ErrUnavailable {
		found.RetryAfter = time.Second
	}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			found.Fields = map[string]string{}
			for _, each := range detail.FieldViolations {
				reason, sentence := reasonOf(each)
				found.Fields[each.Field] = reason
				found.Sentence = strings.TrimSpace(found.Sentence + " " + sentence)
			}
		case *errdetails.ErrorInfo:
			found.Reason = detail.Reason
		case *errdetails.RetryInfo:
			found.RetryAfter = detail.RetryDelay.AsDuration()
		}
	}
	return found
}

// reasonOf reads the reason and the localized message of a violation, which versions of errdetails before August 2024
// do not know.
func reasonOf(violation *errdetails.BadRequest_FieldViolation) (reason, sentence string) {
	message, _ := proto.Marshal(violation)
	reason = string(fieldOf(message, 3))
	if reason == "" {
		reason = violation.Description
	}
	return reason, string(fieldOf(fieldOf(message, 4), 2))
}

// fieldOf returns a field of bytes, or nil.
func fieldOf(message []byte, number protowire.Number) []byte {
	for left := message; len(left) > 0; {
		field, kind, length := protowire.ConsumeField(left)
		if length < 0 {
			break
		}
		if field == number && kind == protowire.BytesType {
			_, _, head := protowire.ConsumeTag(left)
			value, _ := protowire.ConsumeBytes(left[head:])
			return value
		}
		left = left[length:]
	}
	return nil
}
