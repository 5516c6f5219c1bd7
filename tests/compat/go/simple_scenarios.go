package main

import (
	"bytes"
	"context"
	"math/rand"
	"slices"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const bodyMax = 4 * 1024 * 1024

// simple holds the scenarios of producers and simple consumers: what was sent comes, once acked never again, otherwise
// when its lease ends.
type simple struct {
	clients  *clients
	producer rmq.Producer
}

func simpleScenarios(clients *clients, producer rmq.Producer) []scenario {
	it := &simple{clients, producer}
	return []scenario{
		{"messages_arrive_as_sent", it.messagesArriveAsSent},
		{"acked_message_never_comes_again", it.ackedMessageNeverComesAgain},
		{"body_over_the_limit_is_refused", it.bodyOverTheLimitIsRefused},
		{"tag_filter_selects", it.tagFilterSelects},
		{"expired_lease_is_redelivered", it.expiredLeaseIsRedelivered},
		{"shorter_invisible_duration", it.shorterInvisibleDuration},
		{"longer_invisible_duration", it.longerInvisibleDuration},
	}
}

// Tags, keys, properties, Unicode and 4 MiB bodies come out as they went in.
func (s *simple) messagesArriveAsSent() {
	topic := "go-as-sent"
	binary := &rmq.Message{Topic: topic, Body: []byte{0, 1, 0xff, 0}}
	binary.SetTag("binary")
	keys := text(topic, "k")
	keys.SetKeys("order-1", "order-2")
	properties := text(topic, "p")
	properties.AddProperty("colour", "dark blue")
	properties.AddProperty("größe.x-y_z", "日本語 🚀 = a,b;c")
	large := &rmq.Message{Topic: topic, Body: make([]byte, bodyMax)}
	rand.New(rand.NewSource(4)).Read(large.Body)
	large.SetTag("large")
	large.SetKeys("order-3")
	large.AddProperty("size", "4 MiB")
	messages := []*rmq.Message{
		text(topic, "plain"), text(topic, "snow ☃, Größe, 日本語, 🚀"), binary, keys, properties, large,
	}
	sent := map[string]*rmq.Message{}
	for _, message := range messages {
		sent[send(s.producer, message)] = message
	}
	equal(len(messages), len(sent), "different message ids")

	consumer := s.clients.simple(topic, "go-as-sent-group", "*", poll)
	defer stop(consumer)
	for _, received := range receive(consumer, len(messages), time.Minute) {
		id := received.GetMessageId()
		wanted := sent[id]
		delete(sent, id)
		check(wanted != nil, "%s was not sent, or came twice", id)
		checkSame(wanted, received)
		ack(consumer, received)
	}
}

func checkSame(wanted *rmq.Message, received *rmq.MessageView) {
	equal(wanted.Topic, received.GetTopic(), "topic")
	equal(orEmpty(wanted.GetTag()), orEmpty(received.GetTag()), "tag")
	check(slices.Equal(wanted.GetKeys(), received.GetKeys()), "keys: found %v", received.GetKeys())
	equal(len(wanted.GetProperties()), len(received.GetProperties()), "properties")
	for name, content := range wanted.GetProperties() {
		equal(content, received.GetProperties()[name], name)
	}
	body := received.GetBody()
	check(bytes.Equal(wanted.Body, body), "a body of %d bytes is not what was sent", len(body))
	equal(int32(1), received.GetDeliveryAttempt(), "delivery attempt")
	check(received.GetBornTimestamp() != nil, "born timestamp")
}

func orEmpty(tag *string) string {
	if tag == nil {
		return ""
	}
	return *tag
}

func (s *simple) ackedMessageNeverComesAgain() {
	topic, group := "go-acked", "go-acked-group"
	for range 20 {
		send(s.producer, text(topic, "message"))
	}
	consumer := s.clients.simple(topic, group, "*", poll)
	defer stop(consumer)
	for _, received := range receive(consumer, 20, lease) {
		ack(consumer, received)
	}
	s.clients.expectNothing(topic, group)
}

func (s *simple) bodyOverTheLimitIsRefused() {
	over := &rmq.Message{Topic: "go-over-the-limit", Body: make([]byte, bodyMax+1)}
	_, err := s.producer.Send(context.Background(), over)
	check(err != nil, "a body of %d bytes was taken", len(over.Body))
}

func (s *simple) tagFilterSelects() {
	topic := "go-tags"
	for _, tag := range []string{"red", "green", "blue"} {
		message := text(topic, tag)
		message.SetTag(tag)
		send(s.producer, message)
	}
	send(s.producer, text(topic, "none"))
	some := s.clients.simple(topic, "go-tags-some", "red || blue", silence)
	defer stop(some)
	all := s.clients.simple(topic, "go-tags-all", "*", poll)
	defer stop(all)
	equal([]string{"blue", "red"}, receiveBodies(some, 2), "bodies with tag red or blue")
	equal([]string{"blue", "green", "none", "red"}, receiveBodies(all, 4), "all bodies")
	expectNothing(some)
}

// receiveBodies receives and acks count messages; their bodies, sorted.
func receiveBodies(consumer rmq.SimpleConsumer, count int) []string {
	var bodies []string
	for _, received := range receive(consumer, count, lease) {
		bodies = append(bodies, string(received.GetBody()))
		ack(consumer, received)
	}
	slices.Sort(bodies)
	return bodies
}

// A lease that ends brings the message back with attempt 2, and the first handle then acks nothing. This SDK does not
// tell that an ack was refused, but what was not acked comes a third time.
func (s *simple) expiredLeaseIsRedelivered() {
	topic, group := "go-expiry", "go-expiry-group"
	send(s.producer, text(topic, "again"))
	consumer := s.clients.simple(topic, group, "*", poll)
	defer stop(consumer)
	start := time.Now()
	first := receiveOne(consumer, lease)
	equal(int32(1), first.GetDeliveryAttempt(), "first delivery attempt")
	again := time.Now()
	second := receiveOne(consumer, lease)
	elapsed(start, lease, "the redelivery")
	equal(first.GetMessageId(), second.GetMessageId(), "message id")
	equal(int32(2), second.GetDeliveryAttempt(), "second delivery attempt")
	ack(consumer, first)
	third := receiveOne(consumer, lease)
	check(time.Since(again) >= 2*lease-2*earlyMax, "the third delivery came early")
	equal(first.GetMessageId(), third.GetMessageId(), "message id")
	equal(int32(3), third.GetDeliveryAttempt(), "third delivery attempt")
	ack(consumer, third)
	s.clients.expectNothing(topic, group)
}

func (s *simple) shorterInvisibleDuration() {
	topic := "go-shorter"
	send(s.producer, text(topic, "sooner"))
	consumer := s.clients.simple(topic, "go-shorter-group", "*", poll)
	defer stop(consumer)
	first := receiveOne(consumer, 5*time.Minute)
	start := time.Now()
	must(consumer.ChangeInvisibleDuration(first, lease))
	second := receiveOne(consumer, lease)
	elapsed(start, lease, "the redelivery")
	equal(first.GetMessageId(), second.GetMessageId(), "message id")
	equal(int32(2), second.GetDeliveryAttempt(), "delivery attempt")
	ack(consumer, second)
}

func (s *simple) longerInvisibleDuration() {
	topic, group := "go-longer", "go-longer-group"
	send(s.producer, text(topic, "later"))
	consumer := s.clients.simple(topic, group, "*", poll)
	defer stop(consumer)
	received := receiveOne(consumer, lease)
	must(consumer.ChangeInvisibleDuration(received, 5*time.Minute))
	s.clients.expectNothing(topic, group)
	ack(consumer, received)
}
