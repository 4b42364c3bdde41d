// Calls at a steady rate, round robin over every replica that calls itself healthy, until standard input ends.
// Then one JSON object: how often each code came, and what the calls said that failed.
//
//	steady_calls ADDRESS,ADDRESS CALLS_PER_SECOND METHOD=REQUEST_IN_HEX ...
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

const (
	callTimeout = 15 * time.Second
	config      = `{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "avion.MediaService"}}`
)

// raw passes messages as the bytes that they are on the wire.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { return nil }
func (raw) Name() string                       { return "proto" }

type result struct {
	mutex    sync.Mutex
	Codes    map[string]int `json:"codes"`
	Problems []string       `json:"problems"`
}

func (r *result) note(method string, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Codes[status.Code(err).String()]++
	if err != nil {
		r.Problems = append(r.Problems, fmt.Sprintf("%s: %v", method, err))
	}
}

func main() {
	var state resolver.State
	for _, address := range strings.Split(os.Args[1], ",") {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	replicas := manual.NewBuilderWithScheme("replicas")
	replicas.InitialState(state)
	again := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond}
	connection, err := grpc.NewClient(
		"replicas:///media",
		grpc.WithResolvers(replicas),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: time.Second}),
	)
	must(err)
	perSecond, err := strconv.Atoi(os.Args[2])
	must(err)
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	found := &result{Codes: map[string]int{}, Problems: []string{}}
	var calls sync.WaitGroup
	ticks := time.NewTicker(time.Second / time.Duration(perSecond))
	for turn := 0; ; turn++ {
		select {
		case <-over:
			calls.Wait()
			must(json.NewEncoder(os.Stdout).Encode(found))
			return
		case <-ticks.C:
		}
		method, encoded, _ := strings.Cut(os.Args[3+turn%(len(os.Args)-3)], "=")
		request, err := hex.DecodeString(encoded)
		must(err)
		calls.Add(1)
		go func() {
			defer calls.Done()
			ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
			defer cancel()
			found.note(method, connection.Invoke(ctx, method, request, nil, grpc.ForceCodec(raw{})))
		}()
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
