package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"avion.example/media/client/mediapb"
)

// sending is one file on its way to the store.
type sending struct {
	client   *Client
	file     *os.File
	size     int64
	progress func(sent, size int64)
}

// refused is an answer of the store.
type refused struct {
	status int
	text   string
}

func (r *refused) Error() string { return fmt.Sprintf("%v: %d: %s", ErrStore, r.status, r.text) }
func (r *refused) Unwrap() error { return ErrStore }

// whole sends the file by one PUT.
func (s sending) whole(ctx context.Context, part *mediapb.UploadPart) error {
	for _, pause := range append(pauses, 0) {
		err := s.put(ctx, part, 0)
		answer := (*refused)(nil)
		isFinal := errors.As(err, &answer) && answer.status < 500 && answer.status != http.StatusTooManyRequests
		if err == nil || isFinal || pause == 0 || sleep(ctx, pause) != nil {
			return err
		}
	}
	return nil
}

// parts sends all parts that the store does not have.
func (s sending) parts(ctx context.Context, upload UploadInParts) error {
	for attempt := 0; ; attempt++ {
		request := &mediapb.SignUploadPartsRequest{MediaId: upload.MediaID, UploadId: upload.UploadID}
		signed, err := s.client.SignUploadParts(ctx, request)
		if err != nil {
			return err
		}
		var stored, expected int64
		for _, part := range signed.Parts {
			expected += part.Size
			if part.Stored {
				stored += part.Size
			}
		}
		if expected != s.size {
			return fmt.Errorf("%w: %d bytes; this one has %d", ErrFileChanged, expected, s.size)
		}
		s.note(stored)
		var problem error
		for _, part := range signed.Parts {
			if part.Stored {
				continue
			}
			if problem = s.put(ctx, part, stored); problem != nil {
				break // a store that hangs would take its time for each part
			}
			stored += part.Size
			attempt = 0
		}
		if problem == nil || attempt == len(pauses) || sleep(ctx, pauses[attempt]) != nil {
			return problem
		}
	}
}

// resume goes on with an upload. It returns its media id; nothing if it is gone.
func (s sending) resume(ctx context.Context, upload UploadInParts) (string, error) {
	err := s.parts(ctx, upload)
	if errors.Is(err, ErrNotFound) { // joined, completed, aborted or expired
		var status *mediapb.MediaStatus
		status, err = s.client.GetMediaStatus(ctx, &mediapb.GetMediaStatusRequest{MediaId: upload.MediaID})
		if state := status.GetState(); state == mediapb.MediaStatus_FAILED || state == mediapb.MediaStatus_DELETED {
			return "", nil
		}
	}
	if err == nil {
		err = s.client.Complete(ctx, upload)
	}
	switch {
	case err == nil:
		return upload.MediaID, nil
	case errors.Is(err, ErrConflict), errors.Is(err, ErrNotFound):
		return "", nil
	}
	return "", err
}

// put sends a part, or the whole file; before so many bytes the store has all.
func (s sending) put(ctx context.Context, part *mediapb.UploadPart, before int64) error {
	patience := s.client.patience
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(patience, func() { cancel(fmt.Errorf("nothing moved for %s", patience)) })
	defer watchdog.Stop()
	body := io.TeeReader(io.NewSectionReader(s.file, part.Offset, part.Size), &counter{s, before, watchdog})
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, part.Url, body)
	if err != nil {
		return err
	}
	request.ContentLength = part.Size
	for name, value := range part.Headers {
		request.Header.Set(name, value)
	}
	answer, err := s.client.store.Do(request)
	if err != nil {
		if about := (*url.Error)(nil); errors.As(err, &about) {
			err = about.Err // without the URL, which is signed
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
	if answer.StatusCode != http.StatusOK {
		return &refused{answer.StatusCode, string(text)}
	}
	return nil
}

func (s sending) note(sent int64) {
	if s.progress != nil {
		s.progress(sent, s.size)
	}
}

type counter struct {
	sending
	sent     int64
	watchdog *time.Timer
}

func (c *counter) Write(chunk []byte) (int, error) {
	c.watchdog.Reset(c.client.patience)
	c.sent += int64(len(chunk))
	c.note(c.sent)
	return len(chunk), nil
}

// sleep waits, or returns the error of ctx when it ends before.
func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}
