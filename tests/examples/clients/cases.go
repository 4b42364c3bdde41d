// What the client makes of a photo (arguments: path, id of nobody, origin), one line of JSON for each case.
// Without an origin: what it does at a service that does not know private media, and has an upload of another file.
// Without an id: what it does at a store that hangs once, then takes a file, then refuses one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"avion.example/media/client"
	"avion.example/media/client/mediapb"
)

func say(what ...any) {
	text, _ := json.Marshal(what)
	fmt.Println(string(text))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func raised(what string, kind, err error) {
	if !errors.Is(err, kind) {
		log.Fatalf("%s: %v", what, err)
	}
	found := &client.Error{}
	errors.As(err, &found)
	reason := found.Reason
	if errors.Is(err, client.ErrDeleted) {
		reason = "DELETED"
	}
	fields := found.Fields
	if fields == nil {
		fields = map[string]string{}
	}
	say(what, reason, fields, client.Sentence(err))
}

func main() {
	ctx := context.Background()
	if len(os.Args) == 2 {
		options := client.Options{StoreTimeout: 500 * time.Millisecond}
		hurried := must(client.New(os.Getenv("AVION_MEDIA_GRPC__BIND"), options))
		photo := client.Upload{Path: os.Args[1], ContentType: "image/jpeg"}
		say("sent again", must(hurried.Upload(ctx, photo)))
		_, err := hurried.Upload(ctx, photo)
		raised("refused", client.ErrStore, err)
		inClear := []string{}
		for _, address := range strings.Fields(os.Getenv("ADDRESSES")) {
			if _, err := client.New(address, client.Options{Token: "secret"}); err == nil {
				inClear = append(inClear, address)
			} else if !strings.Contains(err.Error(), "pass TLSCA") {
				log.Fatal(err)
			}
		}
		say("in clear", inClear)
		return
	}
	photo, nobody := os.Args[1], os.Args[2]
	media := must(client.FromEnvironment(client.Options{}))
	defer media.Close()
	private := client.Upload{
		Path: photo, ContentType: "image/jpeg", Visibility: mediapb.MediaVisibility_MEDIA_VISIBILITY_PRIVATE,
	}
	if len(os.Args) == 3 {
		_, err := media.Upload(ctx, private)
		raised("older", client.ErrUnavailable, err)
		begun := &client.UploadInParts{MediaID: nobody, UploadID: "upload"}
		_, err = media.Upload(ctx, client.Upload{Path: photo, ContentType: "image/jpeg", Resume: begun})
		raised("changed", client.ErrFileChanged, err)
		begun = &client.UploadInParts{MediaID: nobody, UploadID: "joined"}
		say("joined", must(media.Upload(ctx, client.Upload{Path: photo, ContentType: "image/jpeg", Resume: begun})))
		must(media.Delete(ctx, client.Deletion{Delay: durationpb.New(0)}, nobody))
		return
	}
	mediaID := must(media.Upload(ctx, client.Upload{Path: photo, ContentType: "image/jpeg", Owner: "alice"}))
	must(media.Wait(ctx, mediaID))
	say("not owned", must(media.Delete(ctx, client.Deletion{Owner: "bob"}, mediaID))[0] == mediaID)
	say("deleted", append([]string{}, must(media.Delete(ctx, client.Deletion{Owner: "alice"}, mediaID))...))
	_, err := media.Wait(ctx, mediaID)
	raised("wait", client.ErrDeleted, err)
	restored := must(media.UndeleteMedia(ctx, &mediapb.UndeleteMediaRequest{MediaIds: []string{mediaID}}))
	say("restored", restored.Restored[0] == mediaID)
	say("state", must(media.Wait(ctx, mediaID)).State.String())
	_, err = media.GetMediaStatus(ctx, &mediapb.GetMediaStatusRequest{MediaId: nobody})
	raised("unknown", client.ErrNotFound, err)
	_, err = media.Upload(ctx, client.Upload{Path: photo, ContentType: "image/jpeg", Owner: "a b"})
	raised("invalid", client.ErrInvalid, err)
	_, err = media.Upload(ctx, client.Upload{Path: photo, ContentType: "text/plain"})
	call, _, _ := strings.Cut(err.Error(), ": ")
	say("refused", call, client.Sentence(err))
	granted := must(media.RequestMediaUpload(ctx, &mediapb.RequestMediaUploadRequest{
		Filename: "a.jpg", ContentType: "image/jpeg", Size: 9,
	}))
	err = media.Complete(ctx, client.UploadInParts{MediaID: granted.MediaId})
	raised("early", client.ErrConflict, err)
	text := must(media.Upload(ctx, client.Upload{Path: os.Args[0] + ".go", ContentType: "image/png", Filename: "program.png"}))
	_, err = media.Wait(ctx, text)
	failed := &client.Failed{}
	if !errors.As(err, &failed) {
		log.Fatal(err)
	}
	say("failed", failed.Reason, client.Sentence(err), failed.Retryable)
	secret := must(media.Wait(ctx, must(media.Upload(ctx, private))))
	ids := []string{secret.MediaId}
	signed := must(media.SignMediaUrls(ctx, &mediapb.SignMediaUrlsRequest{
		MediaIds: ids, Ttl: durationpb.New(600_000_000_000), Audience: "bob",
	}))
	url := os.Args[3] + strings.ReplaceAll(secret.Path, "{token}", signed.Tokens[secret.MediaId])
	say("signed", must(http.Get(url)).StatusCode)
	must(media.RevokeMediaUrls(ctx, &mediapb.RevokeMediaUrlsRequest{MediaIds: ids, Audience: "bob"}))
	say("revoked", must(http.Get(url)).StatusCode)
}
