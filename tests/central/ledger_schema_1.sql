BEGIN TRANSACTION;
CREATE TABLE balances (
	account_id TEXT NOT NULL, 
	as_of BIGINT NOT NULL, 
	received_at BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (account_id)
);
INSERT INTO "balances" VALUES('acc-1',1795154400000000,1795154400000000,'{"amount":"1.00"}');
CREATE TABLE captures (
	id INTEGER NOT NULL, 
	capture_id TEXT NOT NULL, 
	value_rev BIGINT NOT NULL, 
	meter TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	start BIGINT, 
	received_at BIGINT NOT NULL, 
	quality TEXT NOT NULL, 
	reason TEXT, 
	directory_version BIGINT NOT NULL, 
	gateway TEXT NOT NULL, 
	journal TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	ingested_at BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	raw TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "captures" VALUES(1,'GEN:1/block_load/2026-11-01T00:30:00Z/0',2,'GEN:1','block_load',1793493000000000,1793491200000000,1793493060000000,'1.0.0','no_account',0,'edge-1','journal-1',6,1795240800000250,'{"capture_id":"GEN:1/block_load/2026-11-01T00:30:00Z/0","value_rev":2,"meter":"GEN:1","profile":"block_load","at":"2026-11-01T00:30:00Z","start":"2026-11-01T00:00:00Z","meter_time":null,"received_at":"2026-11-01T00:31:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"1.7","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0}',NULL);
INSERT INTO "captures" VALUES(2,'GEN:1/daily/2026-11-02T00:00:00Z/0',1,'GEN:1','daily',1793577600000000,NULL,1793494860000000,'1.0.0','no_account',0,'edge-1','journal-1',2,1795154400000000,'{"capture_id":"GEN:1/daily/2026-11-02T00:00:00Z/0","value_rev":1,"meter":"GEN:1","profile":"daily","at":"2026-11-02T00:00:00Z","start":null,"meter_time":null,"received_at":"2026-11-01T01:01:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"100","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0}','0a0b');
INSERT INTO "captures" VALUES(3,'GEN:1/block_load/2026-11-01T02:30:00Z/0',1,'GEN:1','block_load',1793500200000000,1793498400000000,1793500260000000,'1.0.0','no_account',0,'edge-1','journal-1',5,1795154400000000,'{"capture_id":"GEN:1/block_load/2026-11-01T02:30:00Z/0","value_rev":1,"meter":"GEN:1","profile":"block_load","at":"2026-11-01T02:30:00Z","start":"2026-11-01T02:00:00Z","meter_time":null,"received_at":"2026-11-01T02:31:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"1.50","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0}',NULL);
CREATE TABLE cursors (
	name TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "cursors" VALUES('schema_version',1);
INSERT INTO "cursors" VALUES('attributions_published',4);
CREATE TABLE dead_letters (
	id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	topic TEXT NOT NULL, 
	payload BLOB NOT NULL, 
	size BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	first_seen BIGINT NOT NULL, 
	last_seen BIGINT NOT NULL, 
	times_seen BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (digest)
);
INSERT INTO "dead_letters" VALUES(1,'9fc703650105ea5913c6ddd4b300b5bc','t',X'FF',1,'malformed','$: bad',1795154400000000,1795154400000000,1);
CREATE TABLE edge_meters (
	gateway TEXT NOT NULL, 
	meter TEXT NOT NULL, 
	PRIMARY KEY (gateway, meter)
);
INSERT INTO "edge_meters" VALUES('edge-1','GEN:1');
CREATE TABLE edge_parts (
	gateway TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	digest TEXT NOT NULL, 
	PRIMARY KEY (gateway)
);
INSERT INTO "edge_parts" VALUES('edge-1',3,'ab');
CREATE TABLE gaps (
	gap_id TEXT NOT NULL, 
	meter TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	"after" BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	noticed_at BIGINT NOT NULL, 
	gateway TEXT NOT NULL, 
	journal TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	ingested_at BIGINT NOT NULL, 
	PRIMARY KEY (gap_id)
);
INSERT INTO "gaps" VALUES('gap-1','GEN:1','block_load',1793491200000000,1793577600000000,'open','meter_silent',1793577600000000,'edge-1','journal-1',7,1795154400000000);
CREATE TABLE journal_islands (
	journal TEXT NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	PRIMARY KEY (journal, first)
);
INSERT INTO "journal_islands" VALUES('journal-1',5,7);
CREATE TABLE journal_lost (
	journal TEXT NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	declared_at BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (journal, first)
);
INSERT INTO "journal_lost" VALUES('journal-1',3,3,1795154400000000,'trimmed');
CREATE TABLE journals (
	journal TEXT NOT NULL, 
	gateway TEXT NOT NULL, 
	contiguous BIGINT NOT NULL, 
	stored BIGINT NOT NULL, 
	repeated BIGINT NOT NULL, 
	revised BIGINT NOT NULL, 
	first_seen BIGINT NOT NULL, 
	last_seen BIGINT NOT NULL, 
	PRIMARY KEY (journal)
);
INSERT INTO "journals" VALUES('journal-1','edge-1',3,3,0,1,1795154400000000,1795240800000250);
CREATE TABLE statuses (
	gateway TEXT NOT NULL, 
	received_at BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (gateway)
);
INSERT INTO "statuses" VALUES('edge-1',1795154400000000,'{"gateway":"edge-1"}');
CREATE TABLE superseded (
	id INTEGER NOT NULL, 
	capture_id TEXT NOT NULL, 
	value_rev BIGINT NOT NULL, 
	meter TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	start BIGINT, 
	received_at BIGINT NOT NULL, 
	quality TEXT NOT NULL, 
	reason TEXT, 
	directory_version BIGINT NOT NULL, 
	gateway TEXT NOT NULL, 
	journal TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	ingested_at BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	raw TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "superseded" VALUES(1,'GEN:1/block_load/2026-11-01T00:30:00Z/0',1,'GEN:1','block_load',1793493000000000,1793491200000000,1793493060000000,'1.0.0','no_account',0,'edge-1','journal-1',1,1795154400000000,'{"capture_id":"GEN:1/block_load/2026-11-01T00:30:00Z/0","value_rev":1,"meter":"GEN:1","profile":"block_load","at":"2026-11-01T00:30:00Z","start":"2026-11-01T00:00:00Z","meter_time":null,"received_at":"2026-11-01T00:31:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"1.0","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0}',NULL);
CREATE TABLE unattributed (
	capture_id TEXT NOT NULL, 
	meter TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	start BIGINT, 
	reason TEXT NOT NULL, 
	ingested_at BIGINT NOT NULL, 
	checked_version BIGINT NOT NULL, 
	PRIMARY KEY (capture_id)
);
INSERT INTO "unattributed" VALUES('GEN:1/daily/2026-11-02T00:00:00Z/0','GEN:1','daily',1793577600000000,NULL,'no_account',1795154400000000,0);
INSERT INTO "unattributed" VALUES('GEN:1/block_load/2026-11-01T02:30:00Z/0','GEN:1','block_load',1793500200000000,1793498400000000,'no_account',1795154400000000,0);
INSERT INTO "unattributed" VALUES('GEN:1/block_load/2026-11-01T00:30:00Z/0','GEN:1','block_load',1793493000000000,1793491200000000,'no_account',1795240800000250,0);
CREATE UNIQUE INDEX captures_capture_id ON captures (capture_id);
CREATE INDEX captures_meter ON captures (meter, profile, at);
CREATE INDEX superseded_capture_id ON superseded (capture_id, value_rev);
CREATE INDEX superseded_meter ON superseded (meter, at);
CREATE INDEX unattributed_meter ON unattributed (meter);
CREATE INDEX unattributed_checked ON unattributed (checked_version);
CREATE INDEX gaps_meter ON gaps (meter, profile);
CREATE INDEX dead_letters_last_seen ON dead_letters (last_seen);
COMMIT;
