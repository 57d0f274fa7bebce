// Drives NATS JetStream for the yardstick: a command a line on stdin, an answer in JSON a line on stdout.
// The commands and what they mean are in tests/bench/yardstick/src/protocol.rs.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// Longest a command waits for something that should happen.
	patience = 120 * time.Second
	// Under way while a backlog is made.
	filling = 4096
	// Tags, and values of the property, that the messages of a backlog have in turn.
	variety = 100
	// Messages between two acknowledgements of all so far: progress that the server keeps, as offsets are elsewhere.
	ackEvery = 500
)

var out = json.NewEncoder(os.Stdout)

type latency struct {
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
}

type answer struct {
	Count   uint64   `json:"count"`
	Failed  uint64   `json:"failed"`
	Seconds float64  `json:"seconds"`
	Ack     *latency `json:"ack,omitempty"`
	E2e     *latency `json:"e2e,omitempty"`
	Error   string   `json:"error,omitempty"`
}

type times struct {
	sync.Mutex
	all []int64
}

func (t *times) add(took time.Duration) {
	t.Lock()
	t.all = append(t.all, int64(took))
	t.Unlock()
}

func (t *times) latency() *latency {
	t.Lock()
	defer t.Unlock()
	if len(t.all) == 0 {
		return nil
	}
	sort.Slice(t.all, func(i, j int) bool { return t.all[i] < t.all[j] })
	at := func(q float64) float64 {
		i := min(int(q*float64(len(t.all))), len(t.all)-1)
		return float64(t.all[i]) / 1e3
	}
	return &latency{at(0.5), at(0.99), at(0.999), at(1)}
}

type driver struct {
	url  string
	conn *nats.Conn
	// One per number of publishes that may be under way.
	windows map[int]jetstream.JetStream
	groups  int
	// Whether batches are atomic.
	atomic bool
}

func (d *driver) stream(pending int) (jetstream.JetStream, error) {
	if d.conn == nil {
		conn, err := nats.Connect(d.url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
		if err != nil {
			return nil, err
		}
		d.conn = conn
	}
	if js, ok := d.windows[pending]; ok {
		return js, nil
	}
	js, err := jetstream.New(d.conn, jetstream.WithPublishAsyncMaxPending(pending+1))
	if err == nil {
		d.windows[pending] = js
	}
	return js, err
}

func (d *driver) topic(ctx context.Context, name string) error {
	js, err := d.stream(1)
	if err != nil {
		return err
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:     name,
		Subjects: []string{name + ".*"},
		Storage:  jetstream.FileStorage,

		AllowAtomicPublish: d.atomic,
	})
	return err
}

func subject(topic string, number uint64) string {
	return fmt.Sprintf("%s.t%d", topic, number%variety)
}

func filled(size int) []byte {
	body := make([]byte, size)
	_, _ = rand.Read(body)
	return body
}

// The first acknowledged message of a server that may not be there yet.
func (d *driver) first(ctx context.Context, topic string) (*answer, error) {
	began := time.Now()
	for {
		err := d.topic(ctx, topic)
		if err == nil {
			var js jetstream.JetStream
			if js, err = d.stream(1); err == nil {
				if _, err = js.Publish(ctx, subject(topic, 0), filled(1024)); err == nil {
					return &answer{Count: 1, Seconds: time.Since(began).Seconds()}, nil
				}
			}
		}
		if time.Since(began) > patience {
			return nil, err
		}
		time.Sleep(time.Millisecond)
	}
}

// Batches of so many messages, as many of them under way as inFlight says, until the time is over.
func (d *driver) batches(topic string, each, inFlight, size int, seconds float64) (*answer, error) {
	js, err := d.stream(each * inFlight)
	if err != nil {
		return nil, err
	}
	body := filled(size)
	send := func(first uint64) error { return publishEach(js, topic, first, each, body) }
	if d.atomic {
		send = func(first uint64) error { return d.publishAtomic(topic, first, each, body) }
	}
	spent := &times{}
	var made, failed atomic.Uint64
	var failure atomic.Value
	var done sync.WaitGroup
	began := time.Now()
	lasting := time.Duration(seconds * float64(time.Second))
	for range inFlight {
		done.Add(1)
		go func() {
			defer done.Done()
			for time.Since(began) < lasting {
				asked := time.Now()
				if err := send((made.Add(1) - 1) * uint64(each)); err != nil {
					failed.Add(1)
					failure.Store(err.Error())
					continue
				}
				spent.add(time.Since(asked))
			}
		}()
	}
	done.Wait()
	acked := made.Load() - failed.Load()
	if acked == 0 {
		return nil, fmt.Errorf("nothing was acknowledged: %v", failure.Load())
	}
	return &answer{
		Count:   acked * uint64(each),
		Failed:  failed.Load() * uint64(each),
		Seconds: time.Since(began).Seconds(),
		Ack:     spent.latency(),
	}, nil
}

// A batch whose messages are published each by itself, and then waited for.
func publishEach(js jetstream.JetStream, topic string, first uint64, each int, body []byte) error {
	batch := make([]jetstream.PubAckFuture, 0, each)
	for i := range uint64(each) {
		future, err := js.PublishAsync(subject(topic, first+i), body)
		if err != nil {
			return err
		}
		batch = append(batch, future)
	}
	for _, future := range batch {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return err
		}
	}
	return nil
}

// A batch that the server takes whole or not at all. The client has no call for it: headers number its messages,
// and the last one is answered.
func (d *driver) publishAtomic(topic string, first uint64, each int, body []byte) error {
	id := nats.NewInbox()
	for i := 1; ; i++ {
		msg := nats.NewMsg(subject(topic, first+uint64(i)))
		msg.Data = body
		msg.Header["Nats-Batch-Id"] = []string{id}
		msg.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i)}
		if i < each {
			if err := d.conn.PublishMsg(msg); err != nil {
				return err
			}
			continue
		}
		msg.Header["Nats-Batch-Commit"] = []string{"1"}
		reply, err := d.conn.RequestMsg(msg, patience)
		if err != nil {
			return err
		}
		var ack struct {
			Error *jetstream.APIError `json:"error"`
			Count int                 `json:"count"`
		}
		if err := json.Unmarshal(reply.Data, &ack); err != nil {
			return err
		}
		if ack.Error != nil {
			return ack.Error
		}
		if ack.Count != each {
			return fmt.Errorf("%d of %d messages were taken", ack.Count, each)
		}
		return nil
	}
}

// So many publishes under way to these topics in turn, each acknowledged one replaced, until the time is over or
// the count reached.
func (d *driver) produce(ctx context.Context, topics []string, inFlight, size int, seconds float64, count uint64) (*answer, error) {
	js, err := d.stream(inFlight)
	if err != nil {
		return nil, err
	}
	body := filled(size)
	spent := &times{}
	began := time.Now()
	lasting := time.Duration(seconds * float64(time.Second))
	to := func(number uint64) string {
		return subject(topics[number%uint64(len(topics))], number)
	}
	goes := func(number uint64) bool {
		if count > 0 {
			return number < count
		}
		return time.Since(began) < lasting
	}
	if inFlight == 1 {
		var sent uint64
		for ; goes(sent); sent++ {
			asked := time.Now()
			if _, err := js.Publish(ctx, to(sent), body); err != nil {
				return nil, err
			}
			spent.add(time.Since(asked))
		}
		return &answer{Count: sent, Seconds: time.Since(began).Seconds(), Ack: spent.latency()}, nil
	}
	type sending struct {
		asked  time.Time
		future jetstream.PubAckFuture
	}
	underWay := make(chan sending, inFlight)
	failures := make(chan error, 1)
	var done sync.WaitGroup
	var acked, failed uint64
	room := make(chan struct{}, inFlight)
	done.Add(1)
	go func() {
		defer done.Done()
		for one := range underWay {
			select {
			case <-one.future.Ok():
				acked++
				spent.add(time.Since(one.asked))
			case err := <-one.future.Err():
				failed++
				select {
				case failures <- err:
				default:
				}
			}
			<-room
		}
	}()
	for sent := uint64(0); goes(sent); sent++ {
		room <- struct{}{}
		asked := time.Now()
		future, err := js.PublishAsync(to(sent), body)
		if err != nil {
			close(underWay)
			return nil, err
		}
		underWay <- sending{asked, future}
	}
	close(underWay)
	done.Wait()
	if acked == 0 {
		return nil, fmt.Errorf("nothing was acknowledged: %w", <-failures)
	}
	return &answer{Count: acked, Failed: failed, Seconds: time.Since(began).Seconds(), Ack: spent.latency()}, nil
}

// A consumer whose progress the server keeps.
func (d *driver) consume(ctx context.Context, topic, filter string, each func(jetstream.Msg)) (func(), error) {
	js, err := d.stream(1)
	if err != nil {
		return nil, err
	}
	d.groups++
	config := jetstream.ConsumerConfig{
		Durable:       fmt.Sprintf("g%d", d.groups),
		AckPolicy:     jetstream.AckAllPolicy,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		MaxAckPending: 16 * ackEvery,
		FilterSubject: filter,
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, topic, config)
	if err != nil {
		return nil, err
	}
	seen := 0
	running, err := consumer.Consume(func(msg jetstream.Msg) {
		each(msg)
		if seen++; seen%ackEvery == 0 {
			_ = msg.Ack()
		}
	})
	if err != nil {
		return nil, err
	}
	return running.Stop, nil
}

// New consumers, which read side by side until so many messages came on the average.
func (d *driver) drain(ctx context.Context, topic, filter string, expect uint64, groups int) (*answer, error) {
	wanted := ""
	switch filter {
	case "all":
	case "tag":
		wanted = topic + ".t7"
	default:
		return nil, fmt.Errorf("JetStream has no filter %q", filter)
	}
	_ = out.Encode(map[string]bool{"joined": true})
	began := time.Now()
	total := expect * uint64(groups)
	var count atomic.Uint64
	all := make(chan struct{})
	for range groups {
		stop, err := d.consume(ctx, topic, wanted, func(jetstream.Msg) {
			if count.Add(1) == total {
				close(all)
			}
		})
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	select {
	case <-all:
		return &answer{Count: total, Seconds: time.Since(began).Seconds()}, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("%d of %d messages came within %v", count.Load(), total, patience)
	}
}

// Open loop: a message is stamped with when it was due, so a stall is in the time of all it delayed.
func (d *driver) endToEnd(ctx context.Context, topic string, rate float64, size int, seconds float64) (*answer, error) {
	if err := d.topic(ctx, topic); err != nil {
		return nil, err
	}
	js, err := d.stream(filling)
	if err != nil {
		return nil, err
	}
	origin := time.Now()
	acks, receipts := &times{}, &times{}
	var probes, received atomic.Uint64
	stop, err := d.consume(ctx, topic, "", func(msg jetstream.Msg) {
		due := binary.LittleEndian.Uint64(msg.Data())
		if due == 0 {
			probes.Add(1)
			return
		}
		receipts.add(time.Since(origin) - time.Duration(due))
		received.Add(1)
	})
	if err != nil {
		return nil, err
	}
	defer stop()
	body := filled(max(size, 8))
	for i := range 8 {
		binary.LittleEndian.PutUint64(body, 0)
		if _, err := js.Publish(ctx, subject(topic, 0), body); err != nil {
			return nil, err
		}
		for probes.Load() <= uint64(i) {
			if time.Since(origin) > patience {
				return nil, errors.New("nothing is received")
			}
			time.Sleep(time.Millisecond)
		}
	}
	start := time.Now()
	total := uint64(rate * seconds)
	var pending sync.WaitGroup
	var failed atomic.Uint64
	for sent := range total {
		due := start.Add(time.Duration(float64(sent) / rate * 1e9))
		time.Sleep(time.Until(due))
		body := append([]byte(nil), body...)
		binary.LittleEndian.PutUint64(body, uint64(due.Sub(origin)))
		future, err := js.PublishAsync(subject(topic, sent), body)
		if err != nil {
			return nil, err
		}
		pending.Add(1)
		go func() {
			defer pending.Done()
			select {
			case <-future.Ok():
				acks.add(time.Since(due))
			case <-future.Err():
				failed.Add(1)
			}
		}()
	}
	pending.Wait()
	lasted := time.Since(start).Seconds()
	for waited := time.Now(); received.Load()+failed.Load() < total && time.Since(waited) < 10*time.Second; {
		time.Sleep(time.Millisecond)
	}
	got := received.Load()
	return &answer{Count: got, Failed: total - got, Seconds: lasted, Ack: acks.latency(), E2e: receipts.latency()}, nil
}

type command struct {
	verb string
	args map[string]string
}

func (c command) number(name string) float64 {
	value, _ := strconv.ParseFloat(c.args[name], 64)
	return value
}

// The topic, or as many as `topics` says, whose names are the topic's and a number.
func (c command) names(topic string) []string {
	if c.args["topics"] == "" {
		return []string{topic}
	}
	names := make([]string, int(c.number("topics")))
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", topic, i)
	}
	return names
}

func (d *driver) obey(c command) (*answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	topic := c.args["topic"]
	size, count := int(c.number("size")), uint64(c.number("count"))
	switch c.verb {
	case "ping":
		return &answer{}, nil
	case "topic":
		for _, name := range c.names(topic) {
			if err := d.topic(ctx, name); err != nil {
				return nil, err
			}
		}
		return &answer{}, nil
	case "first":
		return d.first(ctx, topic)
	case "produce":
		if each := int(c.number("batch")); each > 0 {
			return d.batches(topic, each, int(c.number("in_flight")), size, c.number("seconds"))
		}
		return d.produce(ctx, c.names(topic), int(c.number("in_flight")), size, c.number("seconds"), 0)
	case "fill":
		return d.produce(ctx, []string{topic}, filling, size, 0, count)
	case "drain":
		return d.drain(ctx, topic, c.args["filter"], uint64(c.number("expect")), int(c.number("groups")))
	case "e2e":
		return d.endToEnd(ctx, topic, c.number("rate"), size, c.number("seconds"))
	}
	return nil, fmt.Errorf("unknown command %q", c.verb)
}

func main() {
	server := flag.String("server", "127.0.0.1:4222", "where the server is")
	atomic := flag.Bool("atomic", false, "batches are taken whole or not at all")
	flag.Parse()
	d := &driver{url: "nats://" + *server, windows: map[int]jetstream.JetStream{}, atomic: *atomic}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		c := command{words[0], map[string]string{}}
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			c.args[name] = value
		}
		got, err := d.obey(c)
		if err != nil {
			got = &answer{Error: err.Error()}
		} else if got == nil {
			got = &answer{}
		}
		if out.Encode(got) != nil {
			return
		}
	}
}
