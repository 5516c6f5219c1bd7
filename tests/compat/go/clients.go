package main

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
	"github.com/apache/rocketmq-clients/golang/v5/pkg/zaplog"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

const (
	// The shortest lease a client may ask for.
	lease = 10 * time.Second
	// Longest wait for messages that must come.
	arrivalMax = 30 * time.Second
	// How long an empty receive waits; longer than a lease, so that one left behind would show.
	silence = 12 * time.Second
	poll    = 3 * time.Second
	batch   = 32
	// Longer than the default of 3 s: a busy machine must not look like a lost message.
	requestTimeout = 20 * time.Second
)

// clients makes clients of one server, as an application makes them.
type clients struct {
	endpoint string
}

// newClients prepares the connections of the whole process, because this SDK has no options for those of one client.
func newClients(endpoint string, ssl bool) *clients {
	rmq.EnableSsl = ssl
	logs := filepath.Join(value(os.UserHomeDir()), "logs", "rocketmq", "calls.log")
	options := rmq.WithRpcClientConnOption(
		rmq.WithZapLogger(zaplog.New(zaplog.WithFileName(logs))), // otherwise a fixed file in /tmp
		rmq.WithTLSConfig(&tls.Config{}),                         // otherwise every certificate will do
		rmq.WithDialTimeout(requestTimeout),
	)
	connect := rmq.NewRpcClient
	rmq.NewRpcClient = func(target string, more ...rmq.RpcClientOption) (rmq.RpcClient, error) {
		return connect(target, append(more, options)...)
	}
	return &clients{endpoint}
}

func (c *clients) config(group string) *rmq.Config {
	return &rmq.Config{Endpoint: c.endpoint, ConsumerGroup: group, Credentials: &credentials.SessionCredentials{}}
}

// producer starts one. It gets a topic, because without one the start of this SDK waits for ever.
func (c *clients) producer() rmq.Producer {
	producer := value(rmq.NewProducer(c.config(""), rmq.WithTopics("go-start")))
	producer.SetRequestTimeout(requestTimeout)
	must(producer.Start())
	return producer
}

// transactional starts one that begins transactions of a topic, and is asked about them.
func (c *clients) transactional(topic string, check func(*rmq.MessageView) rmq.TransactionResolution) rmq.Producer {
	producer := value(rmq.NewProducer(c.config(""),
		rmq.WithTopics(topic),
		rmq.WithTransactionChecker(&rmq.TransactionChecker{Check: check})))
	producer.SetRequestTimeout(requestTimeout)
	must(producer.Start())
	return producer
}

func (c *clients) simple(topic, group, tags string, await time.Duration) rmq.SimpleConsumer {
	consumer := value(rmq.NewSimpleConsumer(c.config(group),
		rmq.WithSimpleAwaitDuration(await),
		rmq.WithSimpleSubscriptionExpressions(subscription(topic, tags))))
	consumer.SetRequestTimeout(requestTimeout)
	must(consumer.Start())
	return consumer
}

func (c *clients) push(topic, group string, consume func(*rmq.MessageView) rmq.ConsumerResult) rmq.PushConsumer {
	consumer := value(rmq.NewPushConsumer(c.config(group),
		rmq.WithPushSubscriptionExpressions(subscription(topic, "*")),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: consume})))
	consumer.SetRequestTimeout(requestTimeout)
	must(consumer.Start())
	return consumer
}

func (c *clients) litePush(topic, group string, consume func(*rmq.MessageView) rmq.ConsumerResult) rmq.LitePushConsumer {
	consumer := value(rmq.NewLitePushConsumer(c.config(group),
		rmq.NewLitePushConsumerConfig(topic, lease),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: consume})))
	consumer.SetRequestTimeout(requestTimeout)
	must(consumer.Start())
	return consumer
}

func subscription(topic, tags string) map[string]*rmq.FilterExpression {
	return map[string]*rmq.FilterExpression{topic: rmq.NewFilterExpression(tags)}
}

// stop shuts a client down.
func stop(client interface{ GracefulStop() error }) {
	must(client.GracefulStop())
}

// send sends one message and returns its id.
func send(producer rmq.Producer, message *rmq.Message) string {
	receipts := value(producer.Send(context.Background(), message))
	equal(1, len(receipts), "receipts")
	return receipts[0].MessageID
}

func text(topic, body string) *rmq.Message {
	return &rmq.Message{Topic: topic, Body: []byte(body)}
}

// receiveSome is one long poll. This SDK calls an empty one an error.
func receiveSome(consumer rmq.SimpleConsumer, invisible time.Duration) []*rmq.MessageView {
	received, err := consumer.Receive(context.Background(), batch, invisible)
	var status *rmq.ErrRpcStatus
	if errors.As(err, &status) && status.Code == int32(v2.Code_MESSAGE_NOT_FOUND) {
		return nil
	}
	must(err)
	return received
}

// receive receives until count messages are there.
func receive(consumer rmq.SimpleConsumer, count int, invisible time.Duration) []*rmq.MessageView {
	start := time.Now()
	var received []*rmq.MessageView
	for len(received) < count {
		check(time.Since(start) < arrivalMax, "%d of %d messages within %v", len(received), count, arrivalMax)
		received = append(received, receiveSome(consumer, invisible)...)
	}
	equal(count, len(received), "messages received")
	return received
}

// receiveOne receives one message, which must be the only one.
func receiveOne(consumer rmq.SimpleConsumer, invisible time.Duration) *rmq.MessageView {
	return receive(consumer, 1, invisible)[0]
}

// ack acks; that the server refuses it is no error for this SDK.
func ack(consumer rmq.SimpleConsumer, message *rmq.MessageView) {
	must(consumer.Ack(context.Background(), message))
}

// expectNothing is one long poll of a consumer of its own that must find nothing for longer than a lease.
func (c *clients) expectNothing(topic, group string) {
	consumer := c.simple(topic, group, "*", silence)
	defer stop(consumer)
	expectNothing(consumer)
}

// expectNothing is one long poll, as long as the consumer waits, that must find nothing.
func expectNothing(consumer rmq.SimpleConsumer) {
	for _, found := range receiveSome(consumer, lease) {
		check(false, "nothing should come, but there is %s with attempt %d", found.GetMessageId(), found.GetDeliveryAttempt())
	}
}
