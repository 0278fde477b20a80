BEGIN TRANSACTION;
CREATE TABLE allocations (
	meter TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	gateway TEXT NOT NULL, 
	since BIGINT NOT NULL, 
	until BIGINT, 
	origin TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	note TEXT NOT NULL, 
	known_at BIGINT NOT NULL, told BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (meter, epoch)
);
INSERT INTO "allocations" VALUES('GEN:9',1,'edge-9',1795154400000000,NULL,'claimed','central','the first gateway to deliver it',1795154400000000,0);
INSERT INTO "allocations" VALUES('GEN:1',1,'edge-1',1795631400000000,NULL,'claimed','central','the first gateway to deliver it',1795631400000000,0);
CREATE TABLE balances (
	account_id TEXT NOT NULL, 
	as_of BIGINT NOT NULL, 
	received_at BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (account_id)
);
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
	raw TEXT, epoch BIGINT DEFAULT '0' NOT NULL, directory_generation TEXT DEFAULT '0.00000000' NOT NULL, layout TEXT, holders TEXT, clock TEXT, checksum TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "captures" VALUES(1,'GEN:9/block_load/2026-11-01T00:30:00Z/0',2,'GEN:9','block_load',1793493000000000,1793491200000000,1793493060000000,'1.0.0','no_account',0,'edge-9','journal-v1',5,1795154400000000,'{"capture_id":"GEN:9/block_load/2026-11-01T00:30:00Z/0","value_rev":2,"meter":"GEN:9","profile":"block_load","at":"2026-11-01T00:30:00Z","start":"2026-11-01T00:00:00Z","meter_time":null,"received_at":"2026-11-01T00:31:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"1.7","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0,"directory_generation":"0.00000000","epoch":0,"clock":null,"checksum":null,"suspect":[]}',NULL,0,'0.00000000',NULL,NULL,NULL,NULL);
INSERT INTO "captures" VALUES(2,'GEN:9/block_load/2026-11-01T01:00:00Z/0',1,'GEN:9','block_load',1793494800000000,1793493000000000,1793494860000000,'1.0.0','no_account',0,'edge-9','journal-v1',2,1795154400000000,'{"capture_id":"GEN:9/block_load/2026-11-01T01:00:00Z/0","value_rev":1,"meter":"GEN:9","profile":"block_load","at":"2026-11-01T01:00:00Z","start":"2026-11-01T00:30:00Z","meter_time":null,"received_at":"2026-11-01T01:01:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"-0.05","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0,"directory_generation":"0.00000000","epoch":0,"clock":null,"checksum":null,"suspect":[]}',NULL,0,'0.00000000',NULL,NULL,NULL,NULL);
INSERT INTO "captures" VALUES(3,'GEN:9/block_load/2026-11-01T01:30:00Z/0',1,'GEN:9','block_load',1793496600000000,1793494800000000,1793496660000000,'1.0.0','no_account',0,'edge-9','journal-v1',3,1795154400000000,'{"capture_id":"GEN:9/block_load/2026-11-01T01:30:00Z/0","value_rev":1,"meter":"GEN:9","profile":"block_load","at":"2026-11-01T01:30:00Z","start":"2026-11-01T01:00:00Z","meter_time":null,"received_at":"2026-11-01T01:31:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"007","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0,"directory_generation":"0.00000000","epoch":0,"clock":null,"checksum":null,"suspect":[]}',NULL,0,'0.00000000',NULL,NULL,NULL,NULL);
INSERT INTO "captures" VALUES(4,'GEN:9/daily/2026-11-02T00:00:00Z/0',1,'GEN:9','daily',1793577600000000,NULL,1793577660000000,'1.0.0','no_account',0,'edge-9','journal-v1',4,1795154400000000,'{"capture_id":"GEN:9/daily/2026-11-02T00:00:00Z/0","value_rev":1,"meter":"GEN:9","profile":"daily","at":"2026-11-02T00:00:00Z","start":null,"meter_time":null,"received_at":"2026-11-02T00:01:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"100","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0,"directory_generation":"0.00000000","epoch":0,"clock":null,"checksum":null,"suspect":[]}','0a0b',0,'0.00000000',NULL,NULL,NULL,NULL);
INSERT INTO "captures" VALUES(5,'GEN:9/block_load/2026-11-01T04:30:00Z/0',1,'GEN:9','block_load',1793511000000000,1793509200000000,1793507460000000,'1.0.0',NULL,0,'edge-9','journal-v1',6,1795154400000000,'{"capture_id":"GEN:9/block_load/2026-11-01T04:30:00Z/0","value_rev":1,"meter":"GEN:9","profile":"block_load","at":"2026-11-01T04:30:00Z","start":"2026-11-01T04:00:00Z","meter_time":null,"received_at":"2026-11-01T04:31:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"1.50","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"untrusted_time","directory_version":0,"directory_generation":"0.00000000","epoch":0,"clock":null,"checksum":null,"suspect":[]}',NULL,0,'0.00000000',NULL,NULL,NULL,NULL);
INSERT INTO "captures" VALUES(6,'GEN:9/block_load/2026-11-01T05:00:00Z/0',1,'GEN:9','block_load',1793509200000000,1793507400000000,1793509260000000,'1.0.0','untrusted_time',0,'edge-9','journal-v1',7,1795154400000000,'{"capture_id":"GEN:9/block_load/2026-11-01T05:00:00Z/0","value_rev":1,"meter":"GEN:9","profile":"block_load","at":"2026-11-01T05:00:00Z","start":"2026-11-01T04:30:00Z","meter_time":null,"received_at":"2026-11-01T05:01:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"1.50","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"untrusted_time","directory_version":0,"directory_generation":"0.00000000","epoch":0,"clock":null,"checksum":null,"suspect":[]}',NULL,0,'0.00000000',NULL,NULL,NULL,NULL);
INSERT INTO "captures" VALUES(7,'GEN:1/block_load/2026-11-23T18:30:00Z/0',1,'GEN:1','block_load',1795458600000000,1795456800000000,1795545000000000,'1.0.0',NULL,7,'edge-1','j-1',17,1795631400000000,'{"at":"2026-11-23T18:30:00Z","deviation":-330,"status":0,"values":["412","231.40"],"wall":"2026-11-24T00:00:00"}',NULL,0,'3.9f2c01ab','64ef7fe4f0614dd1','622f067454e004d4',NULL,'4de88eea444c6d63');
INSERT INTO "captures" VALUES(8,'GEN:1/block_load/2026-11-23T19:00:00Z/0',1,'GEN:1','block_load',1795460400000000,1795458600000000,1795545000000000,'1.0.0',NULL,7,'edge-1','j-1',18,1795631400000000,'{"at":"2026-11-23T19:00:00Z","deviation":-330,"status":0,"values":["413","231.40"],"wall":"2026-11-24T00:00:00"}',NULL,0,'3.9f2c01ab','64ef7fe4f0614dd1','622f067454e004d4',NULL,'0189086ced8a2181');
INSERT INTO "captures" VALUES(9,'GEN:1/block_load/2026-11-23T19:30:00Z/0',2,'GEN:1','block_load',1795462200000000,1795460400000000,1795545000000000,'1.0.0',NULL,7,'edge-1','j-1',101,1795631400000000,'{"at":"2026-11-23T19:30:00Z","deviation":-330,"status":0,"values":["414","231.41"],"wall":"2026-11-24T00:00:00"}',NULL,0,'3.9f2c01ab','64ef7fe4f0614dd1','622f067454e004d4',NULL,'03311e52e91543d3');
INSERT INTO "captures" VALUES(10,'GEN:1/block_load/2026-11-23T20:00:00Z/0',1,'GEN:1','block_load',1795464000000000,1795462200000000,1795545000000000,'1.0.0',NULL,7,'edge-1','j-1',20,1795631400000000,'{"at":"2026-11-23T20:00:00Z","deviation":-330,"status":0,"values":["415","231.40"],"wall":"2026-11-24T00:00:00"}',NULL,0,'3.9f2c01ab','64ef7fe4f0614dd1','622f067454e004d4',NULL,'834565cf7c1a647d');
INSERT INTO "captures" VALUES(11,'GEN:1/block_load/2026-11-23T20:30:00Z/0',1,'GEN:1','block_load',1795465800000000,1795464000000000,1795545000000000,'1.0.0',NULL,7,'edge-1','j-1',21,1795631400000000,'{"at":"2026-11-23T20:30:00Z","deviation":-330,"status":0,"values":["416","231.40"],"wall":"2026-11-24T00:00:00"}',NULL,0,'3.9f2c01ab','64ef7fe4f0614dd1','622f067454e004d4',NULL,'0f5da208db093887');
INSERT INTO "captures" VALUES(12,'GEN:1/block_load/2026-11-23T21:00:00Z/0',1,'GEN:1','block_load',1795467600000000,1795465800000000,1795545000000000,'1.0.0',NULL,7,'edge-1','j-1',22,1795631400000000,'{"at":"2026-11-23T21:00:00Z","deviation":-330,"status":0,"values":["417","231.40"],"wall":"2026-11-24T00:00:00"}',NULL,0,'3.9f2c01ab','64ef7fe4f0614dd1','622f067454e004d4',NULL,'5052521983cb1ec7');
INSERT INTO "captures" VALUES(13,'GEN:1/billing/2026-11-24T04:30:00Z/0',1,'GEN:1','billing',1795494600000000,NULL,1795545000000000,'1.0.0',NULL,7,'edge-1','j-1',100,1795631400000000,'{"at":"2026-11-24T04:30:00Z","deviation":-330,"status":0,"values":["-0.412",{"missing":"not_supported"},{"text":"\"क\"\n"},{"bits":"0101"},{"instant":"2026-11-23T18:30:00Z"}],"wall":"2026-11-24T00:00:00"}','AQIDBAECAwQBAgMEAQIDBAECAwQBAgMEAQIDBAECAwQBAgMEAQIDBAECAwQBAgMEAQIDBAECAwQBAgMEAQIDBAECAwQBAgMEAQIDBAECAwQ=',0,'3.9f2c01ab','992a15365546a80c','622f067454e004d4',NULL,'5d1710ae653f58ba');
INSERT INTO "captures" VALUES(14,'GEN:1/block_load/2026-11-23T22:30:00Z/1',1,'GEN:1','block_load',1795473000000000,1795471200000000,1795545000000000,'2.5.259',NULL,7,'edge-1','j-1',102,1795631400000000,'{"at":"2026-11-23T22:30:00Z","deviation":-330,"occurrence":1,"quality":"2.5.259","status":0,"values":["420","231.40"],"wall":"2026-11-24T00:00:00"}',NULL,0,'3.9f2c01ab','64ef7fe4f0614dd1','622f067454e004d4',NULL,'586a657e980b40f0');
INSERT INTO "captures" VALUES(15,'GEN:9/events/other/201/17',2,'GEN:9','events',1793493000000000,1793491200000000,1793493060000000,'1.0.0','no_account',0,'edge-9','journal-v1',50,1795154400000000,'{"capture_id": "GEN:9/events/other/201/17", "value_rev": 2, "meter": "GEN:9", "profile": "events", "at": "2026-11-01T00:30:00Z", "start": "2026-11-01T00:00:00Z", "meter_time": null, "received_at": "2026-11-01T00:31:00Z", "quality": "1.0.0", "values": [{"q": "1-0:1.29.0*255", "name": "interval_energy_import", "unit": "Wh", "value": "1.7", "instant": null, "text": null, "bits": null, "missing": null}], "attributions": [], "reason": "no_account", "directory_version": 0, "directory_generation": "0.00000000", "epoch": 0, "clock": null, "checksum": null, "suspect": []}',NULL,0,'0.00000000',NULL,NULL,NULL,NULL);
CREATE TABLE central_health (
	name TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	heard_broker_at BIGINT, 
	fault TEXT, 
	PRIMARY KEY (name)
);
CREATE TABLE cursors (
	name TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "cursors" VALUES('allocations_changed',2);
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
CREATE TABLE directory_seen (
	uuid TEXT NOT NULL, 
	generation TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	mark TEXT NOT NULL, 
	told TEXT NOT NULL, 
	PRIMARY KEY (uuid)
);
CREATE TABLE doubted (
	capture_id TEXT NOT NULL, 
	meter TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	gateway TEXT NOT NULL, 
	journal TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	at BIGINT NOT NULL, 
	start BIGINT, 
	received_at BIGINT NOT NULL, 
	boot TEXT, 
	steady BIGINT, 
	drift BIGINT, 
	held BIGINT, 
	former BIGINT, 
	flagged BIGINT NOT NULL, 
	ahead BIGINT NOT NULL, 
	verdict BIGINT, 
	shift BIGINT, 
	PRIMARY KEY (capture_id)
);
INSERT INTO "doubted" VALUES('GEN:9/block_load/2026-11-01T04:30:00Z/0','GEN:9','block_load','edge-9','journal-v1',6,1793507400000000,1793505600000000,1793507460000000,NULL,NULL,NULL,NULL,NULL,0,0,1,3600000000);
INSERT INTO "doubted" VALUES('GEN:9/block_load/2026-11-01T05:00:00Z/0','GEN:9','block_load','edge-9','journal-v1',7,1793509200000000,1793507400000000,1793509260000000,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL);
CREATE TABLE edge_clocks (
	gateway TEXT NOT NULL, 
	ahead BIGINT NOT NULL, 
	trusted BIGINT NOT NULL, 
	central_trusted BIGINT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (gateway)
);
CREATE TABLE edge_counters (
	gateway TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	reserved BIGINT NOT NULL, 
	PRIMARY KEY (gateway, "key")
);
CREATE TABLE edge_parts (
	gateway TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	contract BIGINT NOT NULL, 
	"key" TEXT NOT NULL, 
	sent BOOLEAN NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (gateway)
);
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
CREATE TABLE health_lists (
	gateway TEXT NOT NULL, 
	run TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	listing TEXT NOT NULL, 
	next_part BIGINT NOT NULL, 
	PRIMARY KEY (gateway)
);
CREATE TABLE holder_lists (
	"key" TEXT NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "holder_lists" VALUES('622f067454e004d4','[{"account_id":"acc-17","account_number":"0012345678","legacy_number":"KE0012345","role":"normal","usage_point":"up-17"}]');
CREATE TABLE journal_islands (
	journal TEXT NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	PRIMARY KEY (journal, first)
);
INSERT INTO "journal_islands" VALUES('j-1',17,22);
INSERT INTO "journal_islands" VALUES('j-1',100,102);
CREATE TABLE journal_lost (
	journal TEXT NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	declared_at BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (journal, first)
);
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
INSERT INTO "journals" VALUES('journal-v1','edge-9',7,6,0,1,1795154400000000,1795154400000000);
INSERT INTO "journals" VALUES('j-1','edge-1',0,8,0,1,1795631400000000,1795631400000000);
CREATE TABLE layouts (
	"key" TEXT NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "layouts" VALUES('64ef7fe4f0614dd1','{"columns":[{"name":"interval_energy_import","q":"1-0:1.29.0*255","unit":"Wh"},{"name":"average_voltage","q":"1-0:12.27.0*255","unit":"V"}],"profile":"block_load"}');
INSERT INTO "layouts" VALUES('992a15365546a80c','{"columns":[{"name":"interval_energy_import","q":"1-0:1.29.0*255","unit":"Wh"},{"name":"average_voltage","q":"1-0:12.27.0*255"},{"name":"meter_serial","q":"0-0:96.1.0*255"},{"name":"meter_health","q":"0-0:96.10.1*255"},{"name":"max_demand_time","q":"1-0:1.6.0*255#5"}],"profile":"billing"}');
CREATE TABLE ledger_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT ledger_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "ledger_version" VALUES('0014');
CREATE TABLE line_health (
	gateway TEXT NOT NULL, 
	line TEXT NOT NULL, 
	state TEXT NOT NULL, 
	since BIGINT, 
	detail TEXT, 
	listing TEXT NOT NULL, 
	PRIMARY KEY (gateway, line)
);
CREATE TABLE machine_runs (
	gateway TEXT NOT NULL, 
	boot TEXT NOT NULL, 
	began BIGINT NOT NULL, 
	told_at BIGINT NOT NULL, 
	PRIMARY KEY (gateway, boot)
);
CREATE TABLE meter_health (
	gateway TEXT NOT NULL, 
	meter TEXT NOT NULL, 
	line TEXT, 
	health TEXT NOT NULL, 
	since BIGINT, 
	last_reading_at BIGINT, 
	detail TEXT, 
	listing TEXT NOT NULL, 
	PRIMARY KEY (gateway, meter)
);
CREATE TABLE meters_heard (
	meter TEXT NOT NULL, 
	heard_at BIGINT NOT NULL, 
	PRIMARY KEY (meter)
);
INSERT INTO "meters_heard" VALUES('GEN:9',1793577600000000);
INSERT INTO "meters_heard" VALUES('GEN:1',1795494600000000);
CREATE TABLE quarantine (
	gateway TEXT NOT NULL, 
	journal TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	meter TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	topic TEXT NOT NULL, 
	payload BLOB NOT NULL, 
	size BIGINT NOT NULL, 
	received_at BIGINT NOT NULL, 
	PRIMARY KEY (gateway, journal, seq)
);
CREATE TABLE read_again (
	gateway TEXT NOT NULL, 
	meter TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	since BIGINT, 
	until BIGINT NOT NULL, 
	ordered_at BIGINT NOT NULL, 
	answered_at BIGINT, 
	refused TEXT, 
	PRIMARY KEY (gateway, meter, profile)
);
CREATE TABLE set_backs (
	generation TEXT NOT NULL, 
	begun_at BIGINT NOT NULL, 
	why TEXT NOT NULL, store TEXT DEFAULT 'ledger' NOT NULL, 
	PRIMARY KEY (generation)
);
CREATE TABLE statuses (
	gateway TEXT NOT NULL, 
	received_at BIGINT NOT NULL, 
	run TEXT, 
	status_seq BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (gateway)
);
CREATE TABLE store_life (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "store_life" VALUES('uuid','8b19cfee-e5a1-4e7a-a5a7-2217ab4414e2');
INSERT INTO "store_life" VALUES('generation','1.047db66f');
INSERT INTO "store_life" VALUES('tick','1.9ee79b7f');
INSERT INTO "store_life" VALUES('previous','');
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
	raw TEXT, epoch BIGINT DEFAULT '0' NOT NULL, directory_generation TEXT DEFAULT '0.00000000' NOT NULL, layout TEXT, holders TEXT, clock TEXT, checksum TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "superseded" VALUES(1,'GEN:9/block_load/2026-11-01T00:30:00Z/0',1,'GEN:9','block_load',1793493000000000,1793491200000000,1793493060000000,'1.0.0','no_account',0,'edge-9','journal-v1',1,1795154400000000,'{"capture_id":"GEN:9/block_load/2026-11-01T00:30:00Z/0","value_rev":1,"meter":"GEN:9","profile":"block_load","at":"2026-11-01T00:30:00Z","start":"2026-11-01T00:00:00Z","meter_time":null,"received_at":"2026-11-01T00:31:00Z","quality":"1.0.0","values":[{"q":"1-0:1.29.0*255","name":"interval_energy_import","unit":"Wh","value":"1.0","instant":null,"text":null,"bits":null,"missing":null}],"attributions":[],"reason":"no_account","directory_version":0,"directory_generation":"0.00000000","epoch":0,"clock":null,"checksum":null,"suspect":[]}',NULL,0,'0.00000000',NULL,NULL,NULL,NULL);
INSERT INTO "superseded" VALUES(2,'GEN:1/block_load/2026-11-23T19:30:00Z/0',1,'GEN:1','block_load',1795462200000000,1795460400000000,1795545000000000,'1.0.0',NULL,7,'edge-1','j-1',19,1795631400000000,'{"at":"2026-11-23T19:30:00Z","deviation":-330,"status":0,"values":["414","231.40"],"wall":"2026-11-24T00:00:00"}',NULL,0,'3.9f2c01ab','64ef7fe4f0614dd1','622f067454e004d4',NULL,'8677502c3e2a3ffb');
CREATE TABLE tallies (
	name TEXT NOT NULL, 
	share TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name, share)
);
INSERT INTO "tallies" VALUES('unattributed/no_account','edge-9',5);
INSERT INTO "tallies" VALUES('unattributed/untrusted_time','edge-9',2);
INSERT INTO "tallies" VALUES('unattributed/untrusted_time','',-1);
CREATE TABLE unattributed (
	id INTEGER NOT NULL, 
	meter TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	start BIGINT NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	captures BIGINT NOT NULL, 
	ingested_at BIGINT NOT NULL, 
	stale BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "unattributed" VALUES(1,'GEN:9','block_load','no_account',1793491200000000,1793493000000000,1793496600000000,4,1795154400000000,0);
INSERT INTO "unattributed" VALUES(2,'GEN:9','daily','no_account',1793577600000000,1793577600000000,1793577600000000,1,1795154400000000,0);
INSERT INTO "unattributed" VALUES(3,'GEN:9','block_load','pending',1793491200000000,1793493000000000,1793511000000000,0,1795154400000000,1);
INSERT INTO "unattributed" VALUES(4,'GEN:9','block_load','untrusted_time',1793507400000000,1793509200000000,1793509200000000,1,1795154400000000,0);
INSERT INTO "unattributed" VALUES(5,'GEN:1','block_load','pending',1795460400000000,1795462200000000,1795462200000000,0,1795631400000000,1);
CREATE TABLE verdicts (
	version BIGINT NOT NULL, 
	verdict_id TEXT NOT NULL, 
	meter TEXT NOT NULL, 
	journal TEXT NOT NULL, 
	first_seq BIGINT NOT NULL, 
	last_seq BIGINT NOT NULL, 
	profile TEXT, 
	trust TEXT NOT NULL, 
	shift BIGINT, 
	evidence TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "verdicts" VALUES(1,'time/1/GEN:9','GEN:9','journal-v1',6,6,NULL,'trusted',3600000000,'test',1795154400000000);
CREATE UNIQUE INDEX captures_capture_id ON captures (capture_id);
CREATE INDEX captures_meter ON captures (meter, profile, at);
CREATE INDEX superseded_capture_id ON superseded (capture_id, value_rev);
CREATE INDEX superseded_meter ON superseded (meter, at);
CREATE INDEX gaps_meter ON gaps (meter, profile);
CREATE INDEX dead_letters_last_seen ON dead_letters (last_seen);
CREATE INDEX meter_health_meter ON meter_health (meter);
CREATE INDEX allocations_gateway ON allocations (gateway, until);
CREATE INDEX quarantine_meter ON quarantine (meter);
CREATE INDEX quarantine_size ON quarantine (gateway, size);
CREATE INDEX gaps_state ON gaps (state, profile, reason, meter, "after");
CREATE INDEX doubted_meter ON doubted (meter, journal);
CREATE INDEX doubted_verdict ON doubted (verdict);
CREATE INDEX verdicts_meter ON verdicts (meter, journal);
CREATE INDEX allocations_told ON allocations (told);
CREATE INDEX doubted_ahead ON doubted (ahead, shift);
CREATE INDEX unattributed_meter ON unattributed (meter, profile);
CREATE INDEX unattributed_reason ON unattributed (reason, meter, first);
CREATE INDEX unattributed_stale ON unattributed (stale, id);
COMMIT;
