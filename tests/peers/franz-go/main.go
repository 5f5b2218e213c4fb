// What the connector does with the marker-all Aligner, on franz-go's GroupTransactSession.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	// Not goccy/go-json, which corrupts memory under Go 1.26.
	json "github.com/bytedance/sonic"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What became of each answer: the mark is put behind it.
var extended = "extended"

type answer struct {
	EventID        string  `json:"event_id"`
	Question       string  `json:"question"`
	Answer         string  `json:"answer"`
	UpstreamModel  *string `json:"upstream_model"`
	CreatedAt      *int64  `json:"created_at"`
	ConversationID *string `json:"conversation_id"`
	UserID         *string `json:"user_id"`
	MetadataJSON   *string `json:"metadata_json"`
}

type correction struct {
	CorrectionID     string   `json:"correction_id"`
	EventID          string   `json:"event_id"`
	Question         string   `json:"question"`
	Answer           string   `json:"answer"`
	Correction       string   `json:"correction"`
	Disposition      string   `json:"disposition"`
	Reason           *string  `json:"reason"`
	Message          *string  `json:"message"`
	Similarity       float64  `json:"similarity"`
	UnchangedLogprob *float64 `json:"unchanged_logprob"`
	MeanLogprob      *float64 `json:"mean_logprob"`
	UpstreamModel    *string  `json:"upstream_model"`
	ConversationID   *string  `json:"conversation_id"`
	UserID           *string  `json:"user_id"`
	MetadataJSON     *string  `json:"metadata_json"`
	CreatedAt        *int64   `json:"created_at"`
	AlignerName      string   `json:"aligner_name"`
	AlignerRevision  string   `json:"aligner_revision"`
	TemplateHash     string   `json:"template_hash"`
	MaxNewTokens     int32    `json:"max_new_tokens"`
	Temperature      float64  `json:"temperature"`
	TopP             *float64 `json:"top_p"`
	Seed             *int64   `json:"seed"`
	SourceTopic      string   `json:"source_topic"`
	SourcePartition  int32    `json:"source_partition"`
	SourceOffset     int64    `json:"source_offset"`
	PromptTokens     int32    `json:"prompt_tokens"`
	CorrectionTokens int32    `json:"correction_tokens"`
	QueueMs          int64    `json:"queue_ms"`
	InferenceMs      int64    `json:"inference_ms"`
	CorrectedAt      int64    `json:"corrected_at"`
	Proposal         *string  `json:"proposal"`
}

type pair struct {
	CorrectionID     string   `json:"correction_id"`
	EventID          string   `json:"event_id"`
	Prompt           string   `json:"prompt"`
	Chosen           string   `json:"chosen"`
	Rejected         string   `json:"rejected"`
	Similarity       float64  `json:"similarity"`
	UnchangedLogprob *float64 `json:"unchanged_logprob"`
	MeanLogprob      *float64 `json:"mean_logprob"`
	UpstreamModel    *string  `json:"upstream_model"`
	AlignerName      string   `json:"aligner_name"`
	AlignerRevision  string   `json:"aligner_revision"`
	TemplateHash     string   `json:"template_hash"`
	SourceTopic      string   `json:"source_topic"`
	SourcePartition  int32    `json:"source_partition"`
	SourceOffset     int64    `json:"source_offset"`
	CorrectedAt      int64    `json:"corrected_at"`
	ConversationID   *string  `json:"conversation_id"`
	UserID           *string  `json:"user_id"`
	CreatedAt        *int64   `json:"created_at"`
}

const (
	aligner    = "marker-all"
	revision   = "builtin-1"
	noTemplate = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// The first 128 bits, in hex, of the hash of the record's position and the revision.
func correctionID(r *kgo.Record) string {
	digest := sha256.Sum256(fmt.Appendf(nil, "kafka\n%s\n%d\n%d\n%s", r.Topic, r.Partition, r.Offset, revision))
	return hex.EncodeToString(digest[:16])
}

// Share of words and white spaces in common: the mark adds one of each.
func similarity(text string) float64 {
	words, before := 0, false
	for i := range len(text) {
		space := text[i] == ' ' || text[i]-'\t' < 5
		if i == 0 || space != before {
			words++
		}
		before = space
	}
	return float64(2*words) / float64(2*words+2)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func codec(name string) kgo.CompressionCodec {
	switch name {
	case "zstd":
		return kgo.ZstdCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "none":
		return kgo.NoCompression()
	}
	log.Fatalf("compression %q is not one of zstd, lz4, none", name)
	panic("unreachable")
}

func main() {
	servers := flag.String("bootstrap-servers", "", "")
	answers := flag.String("answers", "", "")
	corrections := flag.String("corrections", "", "")
	pairs := flag.String("pairs", "", "")
	group := flag.String("group", "", "")
	compression := flag.String("compression", "", "")
	intervalMs := flag.Int("commit-interval-ms", 100, "")
	flag.Parse()
	interval := time.Duration(*intervalMs) * time.Millisecond

	session := must(kgo.NewGroupTransactSession(
		kgo.SeedBrokers(*servers),
		kgo.ConsumerGroup(*group),
		kgo.ConsumeTopics(*answers),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.TransactionalID(*group),
		kgo.ProducerBatchCompression(codec(*compression)),
		kgo.MaxBufferedRecords(200_000),
	))
	defer session.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	for ctx.Err() == nil {
		fetches := session.PollRecords(ctx, 10_000)
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			log.Fatal(err)
		}
		begun := time.Now()
		var failed kgo.FirstErrPromise
		for {
			fetches.EachRecord(func(r *kgo.Record) {
				var event answer
				if err := json.Unmarshal(r.Value, &event); err != nil {
					log.Fatal(err)
				}
				corrected := event.Answer + " [marked]"
				id, same, now := correctionID(r), similarity(event.Answer), time.Now().UnixMilli()
				key := []byte(event.EventID)
				session.Produce(ctx, &kgo.Record{Topic: *corrections, Key: key, Value: must(json.Marshal(&correction{
					CorrectionID: id, EventID: event.EventID, Question: event.Question,
					Answer: event.Answer, Correction: corrected, Disposition: "corrected",
					Reason:     &extended,
					Similarity: same, UpstreamModel: event.UpstreamModel,
					ConversationID: event.ConversationID, UserID: event.UserID,
					MetadataJSON: event.MetadataJSON, CreatedAt: event.CreatedAt,
					AlignerName: aligner, AlignerRevision: revision, TemplateHash: noTemplate,
					MaxNewTokens: 1024, SourceTopic: r.Topic, SourcePartition: r.Partition,
					SourceOffset: r.Offset, CorrectedAt: now,
				}))}, failed.Promise())
				session.Produce(ctx, &kgo.Record{Topic: *pairs, Key: key, Value: must(json.Marshal(&pair{
					CorrectionID: id, EventID: event.EventID, Prompt: event.Question,
					Chosen: corrected, Rejected: event.Answer, Similarity: same,
					UpstreamModel: event.UpstreamModel, AlignerName: aligner,
					AlignerRevision: revision, TemplateHash: noTemplate, SourceTopic: r.Topic,
					SourcePartition: r.Partition, SourceOffset: r.Offset, CorrectedAt: now,
					ConversationID: event.ConversationID, UserID: event.UserID, CreatedAt: event.CreatedAt,
				}))}, failed.Promise())
			})
			left := interval - time.Since(begun)
			if left <= 0 || ctx.Err() != nil {
				break
			}
			more, cancel := context.WithTimeout(ctx, left)
			fetches = session.PollRecords(more, 10_000)
			cancel()
		}
		committed, err := session.End(context.Background(), kgo.TransactionEndTry(failed.Err() == nil))
		if err != nil || !committed {
			fmt.Fprintln(os.Stderr, "a transaction was not committed:", err)
			os.Exit(1)
		}
	}
}
