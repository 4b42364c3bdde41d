// upload FILE TYPE: upload a file, wait until it is published, and print where it is.
// What was begun is kept in FILE.upload, so that an upload that was killed goes on when the same command is run again.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	"avion.example/media/client"
)

func main() {
	ctx := context.Background()
	path, contentType := os.Args[1], os.Args[2]
	kept := path + ".upload"
	media, err := client.FromEnvironment(client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer media.Close()
	upload := client.Upload{
		Path: path, ContentType: contentType, Owner: "alice",
		Progress: func(sent, size int64) { fmt.Fprintf(os.Stderr, "%d of %d bytes\n", sent, size) },
		Begun: func(begun client.UploadInParts) error {
			text, _ := json.Marshal(begun)
			return os.WriteFile(kept, text, 0o600)
		},
	}
	if text, err := os.ReadFile(kept); err == nil {
		upload.Resume = &client.UploadInParts{}
		if err := json.Unmarshal(text, upload.Resume); err != nil {
			log.Fatal(err)
		}
	}
	mediaID, err := media.Upload(ctx, upload)
	if err != nil {
		fail(err)
	}
	os.Remove(kept)
	status, err := media.Wait(ctx, mediaID)
	if err != nil {
		fail(err)
	}
	thumbnails := []string{}
	for size := range status.Thumbnails {
		thumbnails = append(thumbnails, size)
	}
	slices.Sort(thumbnails)
	fmt.Println(mediaID, status.ContentType, strings.Join(thumbnails, " "))
}

func fail(err error) {
	log.Print(err)
	fmt.Fprintln(os.Stderr, cmp.Or(client.Sentence(err), "This did not work. Please try again later."))
	os.Exit(1)
}
