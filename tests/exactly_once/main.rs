//! Each input record exactly once in corrections or dead letters, on a real Apache Kafka: at full
//! speed, killed, sharing its work, with a slow Aligner, without a broker, and with bad records.

mod brokers;
mod crashes;
mod dispositions;
mod members;
mod poison;
mod replay;
mod slow;
mod tolerance;
mod volume;
