/* The farm filter in the kernel: TC ingress and egress of the interfaces.
 *
 * The same rule as packet.py and rules.py, which are the reference: whoever changes one changes
 * both, and tests/live/test_bpf.py compares them packet by packet. `make bpf` builds farm.bpf.o,
 * which is shipped: at run time no compiler is needed. Maps are described in the section `maps`
 * by what the loader reads there, not by BTF.
 *
 * A packet for no virtual address is left alone. Of the others only this node's pass on. On the
 * way out, in the section `out`, resets are held back that could end another node's connection.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define BUCKETS 1024 /* limits.BUCKETS, and so on. */
#define GROUPS 8
#define RULES 16
#define ADDRESSES 16
#define PEERS 64
#define EVERY_PEER (PEERS - 1) /* Not a peer: all of them. */
#define HEAD_BYTES 256
#define EXTENSIONS 8
#define REOPENED 4096
#define VLAN_ID 0xfff /* Zero: a priority alone; the frame is the interface's own (IEEE 802.1Q). */

#define LIKELY_HEAD (ETH_HLEN + 40 + 20) /* IPv6 and TCP without options. */

struct map {
	__u32 type, key_bytes, value_bytes, entries;
};

struct rule {
	__u8 protocol, filter, group, unused;
	__be16 port; /* 0: any. */
	__u16 unused_too;
};

struct address {
	__u64 seed;
	__u32 flags;
	__u32 rules;
	struct rule rule[RULES];
};

/* Where the virtual addresses are, IPv4 as ::ffff:a.b.c.d; they are few, and comparing them is
 * quicker than any hash. An unused place is zero. */
struct directory {
	__u64 count;
	struct {
		__u64 high, low;
	} key[ADDRESSES];
};

struct lease {
	__u64 deadline; /* CLOCK_BOOTTIME in ns. Zero, as it begins, is past. */
	__u64 seen;     /* The deadline that was last found ahead, and in which tick. */
	__u64 tick;
};

struct hardware {
	__u8 bytes[6];
	__u16 set;
};

struct map directory SEC("maps") = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct directory), 1 };
struct map addresses SEC("maps") = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct address), ADDRESSES };
/* State in the low byte; above it, when packets are relayed, the peer to relay to. */
struct map buckets SEC("maps") = { BPF_MAP_TYPE_ARRAY, 4, 4, GROUPS * BUCKETS };
struct map lease SEC("maps") = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct lease), 1 };
struct map verdicts SEC("maps") = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 16 };
struct map accepted SEC("maps") = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, GROUPS * BUCKETS };
/* The first is this node. */
struct map peers SEC("maps") = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct hardware), PEERS };
/* Key: the hardware address of a peer and two zero bytes: what it sends was relayed already. */
struct map relays SEC("maps") = { BPF_MAP_TYPE_HASH, 8, 4, PEERS };

/* Key: client and server of a connection that is over here, and of which the client has opened the
 * next one, at another node. */
struct map reopened SEC("maps") = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct bpf_sock_tuple), 4,
				    REOPENED };

enum state { FOREIGN, HARD, SOFT };
enum filter { ON_ADDR, ON_PORT, ON_IPID };
enum kind { MALFORMED, OTHER, SYN, STREAM, DATAGRAM, ECHO, ERROR, FRAGMENT, NEIGHBOUR };
enum flag { DIRECTED = 1 }; /* Clients know the real MAC of one node: it relays to the owner. */

/* What is counted; the names are those of bpf.py. */
enum verdict {
	V_FENCED,    /* Dropped: the lease ran out. */
	V_MALFORMED, /* Dropped. */
	V_REFUSED,   /* Dropped: no rule. */
	V_FOREIGN,   /* Dropped: another node's. */
	V_UNKNOWN,   /* Dropped: a segment in a soft bucket, of a connection that is not here. */
	V_EVERYONE,  /* Accepted: errors, neighbours. */
	V_OPENED,    /* Accepted: SYN. */
	V_OWNED,     /* Accepted: anything else in an owned bucket. */
	V_KNOWN,     /* Accepted: a connection that is here, in a bucket that is not (only) ours. */
	V_COOKIE,    /* Accepted: a valid SYN cookie in a soft bucket. */
	V_RELAYED,   /* Sent on to its owner, or to all that may have the connection. */
	V_SILENCED,  /* On the way out: a reset that may hit another node's connection. */
};

enum action { DROP, ACCEPT, RELAY, COPIED };

struct packet {
	__be32 source[4];
	union {
		__be32 destination[4];
		__u64 key[2];
	};
	__be16 source_port, destination_port, identification;
	__u8 version, protocol, flags; /* Of TCP. */
	__u32 kind;
	__u32 begin, end; /* Of the transport header and of the packet, from the frame's start. */
};

/* xxh64 of at most 18 bytes (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md). */
#define PRIME1 11400714785074694791ULL
#define PRIME2 14029467366897019727ULL
#define PRIME3 1609587929392839161ULL
#define PRIME4 9650029242287828579ULL
#define PRIME5 2870177450012600261ULL

static __always_inline __u64 rotate(__u64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static __always_inline __u64 add_8(__u64 hash, __u64 lane)
{
	hash ^= rotate(lane * PRIME2, 31) * PRIME1;
	return rotate(hash, 27) * PRIME1 + PRIME4;
}

static __always_inline __u64 add_4(__u64 hash, __u32 lane)
{
	hash ^= lane * PRIME1;
	return rotate(hash, 23) * PRIME2 + PRIME3;
}

static __always_inline __u64 add_1(__u64 hash, __u8 lane)
{
	hash ^= lane * PRIME5;
	return rotate(hash, 11) * PRIME1;
}

/* Hash the source address and, if `more`, the two bytes of `extra`, in network order. */
static __always_inline __u64 client(const struct packet *p, int more, __be16 extra, __u64 seed)
{
	__u64 hash = seed + PRIME5 + (p->version == 6 ? 16 : 4) + (more ? 2 : 0);

	if (p->version == 6) {
		hash = add_8(hash, p->source[0] | (__u64)p->source[1] << 32);
		hash = add_8(hash, p->source[2] | (__u64)p->source[3] << 32);
	} else {
		hash = add_4(hash, p->source[0]);
	}
	if (more) {
		hash = add_1(hash, extra & 0xff);
		hash = add_1(hash, extra >> 8);
	}
	hash ^= hash >> 33;
	hash *= PRIME2;
	hash ^= hash >> 29;
	hash *= PRIME3;
	return hash ^ hash >> 32;
}

static __always_inline void add_one(void *map, __u32 index)
{
	__u64 *counter = bpf_map_lookup_elem(map, &index);

	if (counter)
		++*counter;
}

static __always_inline int done(enum action action, enum verdict verdict)
{
	add_one(&verdicts, verdict);
	return action;
}

/* Whether the lease has run out.
 *
 * Reading the clock costs as much as all the rest, so it is read once per tick and deadline:
 * the end of a lease may be noticed a tick late, at most 10 ms, which the loader takes off.
 * CPUs may overwrite each other's note; each wrote what was true in that tick.
 */
static __always_inline int fenced(void)
{
	__u32 zero = 0;
	struct lease *l = bpf_map_lookup_elem(&lease, &zero);
	__u64 tick = bpf_jiffies64();
	__u64 deadline;

	if (!l)
		return 1;
	deadline = *(volatile __u64 *)&l->deadline;
	if (l->tick == tick && l->seen == deadline)
		return 0;
	if (bpf_ktime_get_boot_ns() >= deadline)
		return 1;
	l->seen = deadline;
	l->tick = tick;
	return 0;
}

static __always_inline void set_end(struct packet *p, __u32 packet_bytes, __u32 said)
{
	/* Zero: segments that the kernel has joined. What follows the packet is padding. */
	__u32 bytes = said && said < packet_bytes ? said : packet_bytes;

	p->end = ETH_HLEN + (bytes < HEAD_BYTES ? bytes : HEAD_BYTES);
}

/* Read the addresses; 0: too short to have any, or of another version than the frame says. */
static __always_inline int addresses_of(struct packet *p, void *data, void *end)
{
	struct ethhdr *ethernet = data;
	struct iphdr *ip4 = data + ETH_HLEN;
	struct ipv6hdr *ip6 = data + ETH_HLEN;

	if ((void *)(ip4 + 1) > end)
		return 0;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		if (ip4->version != 4)
			return 0;
		p->version = 4;
		p->source[0] = ip4->saddr;
		p->destination[2] = bpf_htonl(0xffff);
		p->destination[3] = ip4->daddr;
		return 1;
	}
	if (ethernet->h_proto != bpf_htons(ETH_P_IPV6) || (void *)(ip6 + 1) > end)
		return 0;
	if (ip6->version != 6)
		return 0;
	p->version = 6;
	__builtin_memcpy(p->source, &ip6->saddr, 16);
	__builtin_memcpy(p->destination, &ip6->daddr, 16);
	return 1;
}

static __always_inline struct address *find(const struct packet *p)
{
	__u32 zero = 0;
	struct directory *d = bpf_map_lookup_elem(&directory, &zero);

	for (__u32 i = 0; d && i < ADDRESSES && i < d->count; i++) {
		if (d->key[i].low == p->key[1] && d->key[i].high == p->key[0])
			return bpf_map_lookup_elem(&addresses, &i);
	}
	return 0;
}

/* Find the transport header; 0: there is none, and `kind` says why. */
static __always_inline int walk_4(struct packet *p, struct iphdr *ip, __u32 packet_bytes)
{
	p->begin = ETH_HLEN + ip->ihl * 4;
	set_end(p, packet_bytes, bpf_ntohs(ip->tot_len));
	p->protocol = ip->protocol;
	p->identification = ip->id;
	if (ip->ihl < 5 || p->begin > p->end)
		return 0;
	if (ip->frag_off & bpf_htons(0x3fff)) {
		p->kind = FRAGMENT;
		return 0;
	}
	return 1;
}

static __always_inline int is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_AH ||
	       protocol == IPPROTO_DSTOPTS;
}

static __always_inline int walk_6(struct __sk_buff *skb, struct packet *p, struct ipv6hdr *ip)
{
	__u32 payload = bpf_ntohs(ip->payload_len);
	__u8 header[4];

	set_end(p, skb->len - ETH_HLEN, payload ? sizeof(*ip) + payload : 0);
	p->begin = ETH_HLEN + sizeof(*ip);
	p->protocol = ip->nexthdr;
	if (!is_extension(p->protocol))
		return 1;
	for (int i = 0; i < EXTENSIONS; i++) {
		if (p->begin + 8 > p->end || bpf_skb_load_bytes(skb, p->begin, header, 4))
			return 0;
		if (p->protocol == IPPROTO_AH) {
			p->begin += (header[1] + 2) * 4;
		} else if (p->protocol != IPPROTO_FRAGMENT) {
			p->begin += (header[1] + 1) * 8;
		} else if (header[2] || header[3] & 0xf9) {
			p->protocol = header[0];
			p->kind = FRAGMENT;
			return 0;
		} else {
			p->begin += 8;
		}
		p->protocol = header[0];
		if (!is_extension(p->protocol))
			return 1;
	}
	return 0;
}

static __always_inline enum kind kind_of_icmp(__u8 version, __u8 type)
{
	if (version == 4) {
		if (type == 3 || type == 11 || type == 12)
			return ERROR;
		return type == 8 ? ECHO : OTHER;
	}
	if (type >= 1 && type <= 4)
		return ERROR;
	if (type >= 133 && type <= 137)
		return NEIGHBOUR;
	return type == 128 ? ECHO : OTHER;
}

/* Read the transport header: directly when it is where most are, else by a copy. */
static __always_inline void transport(struct __sk_buff *skb, struct packet *p, void *data, void *end)
{
	__u32 room = p->end > p->begin ? p->end - p->begin : 0;
	__u8 icmp = p->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	__u32 first, fourth; /* Words. */
	__u32 copy[4] = {};

	if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP && p->protocol != icmp) {
		p->kind = OTHER;
		return;
	}
	if (room < 8 || (p->protocol == IPPROTO_TCP && room < 20))
		return;
	if (p->begin == ETH_HLEN + sizeof(struct iphdr) && data + ETH_HLEN + 20 + 16 <= end) {
		first = *(__u32 *)(data + ETH_HLEN + 20);
		fourth = *(__u32 *)(data + ETH_HLEN + 20 + 12);
	} else if (p->begin == ETH_HLEN + sizeof(struct ipv6hdr) &&
		   data + ETH_HLEN + 40 + 16 <= end) {
		first = *(__u32 *)(data + ETH_HLEN + 40);
		fourth = *(__u32 *)(data + ETH_HLEN + 40 + 12);
	} else {
		if (room < 16 ? bpf_skb_load_bytes(skb, p->begin, copy, 8)
			      : bpf_skb_load_bytes(skb, p->begin, copy, 16))
			return;
		first = copy[0];
		fourth = copy[3];
	}
	if (p->protocol == icmp) {
		p->kind = kind_of_icmp(p->version, first & 0xff);
		return;
	}
	p->source_port = first & 0xffff;
	p->destination_port = first >> 16;
	if (p->protocol == IPPROTO_UDP) {
		p->kind = DATAGRAM;
	} else if ((fourth & 0xf0) >= 0x50) { /* Byte 12: the length of the header in words. */
		p->flags = fourth >> 8;
		p->kind = (p->flags & 0x12) == 0x02 ? SYN : STREAM;
	}
}

static __always_inline struct rule *first_rule(struct address *address, const struct packet *p)
{
	__u8 icmp = p->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	int portless = p->kind == FRAGMENT;
	int any = p->kind == ECHO || (portless && p->protocol == icmp);

	for (int i = 0; i < RULES && i < address->rules; i++) {
		struct rule *rule = &address->rule[i];

		if (any)
			return rule;
		if (rule->protocol == p->protocol &&
		    (portless || !rule->port || rule->port == p->destination_port))
			return rule;
	}
	return 0;
}

static __always_inline __u64 hash_by(struct rule *rule, const struct packet *p, __u64 seed)
{
	int whole = p->kind == SYN || p->kind == STREAM || p->kind == DATAGRAM;

	if (whole && rule->filter == ON_PORT)
		return client(p, 1, p->source_port, seed);
	if (whole && rule->filter == ON_IPID && p->version == 4)
		return client(p, 1, p->identification, seed);
	return client(p, 0, 0, seed);
}

/* Whether the segment returns a SYN cookie of this node's listener. */
static __always_inline int returns_cookie(struct __sk_buff *skb, const struct packet *p,
					  struct bpf_sock *listener)
{
	__u8 ip[sizeof(struct ipv6hdr)] = {};
	struct tcphdr tcp = {};

	if (bpf_skb_load_bytes(skb, p->begin, &tcp, sizeof(tcp)) || !tcp.ack || tcp.rst)
		return 0;
	if (p->version == 4) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, ip, sizeof(struct iphdr)))
			return 0;
		return !bpf_tcp_check_syncookie(listener, ip, sizeof(struct iphdr), &tcp,
						sizeof(tcp));
	}
	if (bpf_skb_load_bytes(skb, ETH_HLEN, ip, sizeof(ip)))
		return 0;
	return !bpf_tcp_check_syncookie(listener, ip, sizeof(ip), &tcp, sizeof(tcp));
}

static __always_inline void tuple_of(const struct packet *p, struct bpf_sock_tuple *tuple)
{
	if (p->version == 6) {
		__builtin_memcpy(tuple->ipv6.saddr, p->source, 16);
		__builtin_memcpy(tuple->ipv6.daddr, p->destination, 16);
		tuple->ipv6.sport = p->source_port;
		tuple->ipv6.dport = p->destination_port;
	} else {
		tuple->ipv4.saddr = p->source[0];
		tuple->ipv4.daddr = p->destination[3];
		tuple->ipv4.sport = p->source_port;
		tuple->ipv4.dport = p->destination_port;
	}
}

static __always_inline struct bpf_sock *find_socket(struct __sk_buff *skb, const struct packet *p,
						    struct bpf_sock_tuple *tuple)
{
	__u32 bytes = p->version == 6 ? sizeof(tuple->ipv6) : sizeof(tuple->ipv4);

	return bpf_skc_lookup_tcp(skb, tuple, bytes, BPF_F_CURRENT_NETNS, 0);
}

/* A segment in a bucket that is not ours alone: only a connection that is here takes it. */
static __always_inline int by_connection(struct __sk_buff *skb, const struct packet *p, int soft)
{
	enum verdict none = soft ? V_UNKNOWN : V_FOREIGN, verdict = none;
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;

	tuple_of(p, &tuple);
	socket = find_socket(skb, p, &tuple);
	if (!socket)
		return none;
	if (socket->state == BPF_TCP_TIME_WAIT)
		verdict = bpf_map_lookup_elem(&reopened, &tuple) ? none : V_KNOWN;
	else if (socket->state != BPF_TCP_LISTEN)
		verdict = V_KNOWN;
	else if (soft && returns_cookie(skb, p, socket))
		verdict = V_COOKIE;
	bpf_sk_release(socket);
	return verdict;
}

/* Another node's SYN: what is over here, and still waits for stray segments, shall not take those
 * of the new connection. They are relayed, so the other node would never have them. */
static __always_inline void note_reopened(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	__u32 one = 1;

	tuple_of(p, &tuple);
	socket = find_socket(skb, p, &tuple);
	if (!socket)
		return;
	if (socket->state == BPF_TCP_TIME_WAIT)
		bpf_map_update_elem(&reopened, &tuple, &one, BPF_ANY);
	bpf_sk_release(socket);
}

/* Whether a frame was relayed to this node by a peer. */
static __always_inline int was_relayed(struct __sk_buff *skb)
{
	__u8 source[8] = {};

	return bpf_skb_load_bytes(skb, ETH_ALEN, source, ETH_ALEN) ||
	       bpf_map_lookup_elem(&relays, source);
}

/* Address a frame to a peer; 0: not possible. */
static __always_inline int address_to(struct __sk_buff *skb, __u32 peer)
{
	__u32 zero = 0;
	struct hardware *to = bpf_map_lookup_elem(&peers, &peer);
	struct hardware *from = bpf_map_lookup_elem(&peers, &zero);

	if (!to || !to->set || !from || !from->set)
		return 0;
	return !bpf_skb_store_bytes(skb, 0, to->bytes, ETH_ALEN, 0) &&
	       !bpf_skb_store_bytes(skb, ETH_ALEN, from->bytes, ETH_ALEN, 0);
}

static __always_inline void copy_to_all(struct __sk_buff *skb)
{
	for (__u32 peer = 1; peer < EVERY_PEER; peer++) {
		if (address_to(skb, peer))
			bpf_clone_redirect(skb, skb->ifindex, 0);
	}
}

/* Send a frame on to whom its bucket names: the owner, or all while the owner has it only half.
 * What was relayed is never relayed again: no frame circles between nodes of different opinions.
 */
static __always_inline int relay(struct __sk_buff *skb, __u32 entry)
{
	__u32 peer = entry >> 8 & (PEERS - 1);

	if (!peer || was_relayed(skb))
		return DROP;
	if (peer == EVERY_PEER) {
		copy_to_all(skb);
		return COPIED;
	}
	return address_to(skb, peer) ? RELAY : DROP;
}

static __always_inline int decide(struct __sk_buff *skb, struct packet *p, struct address *address)
{
	int directed = address->flags & DIRECTED;
	struct rule *rule;
	__u32 index, state;
	__u32 *entry;
	int verdict, action;

	if (p->kind == ERROR || p->kind == NEIGHBOUR) {
		/* Only the node that has the connection knows what to do with an error. */
		if (directed && p->kind == ERROR && !was_relayed(skb))
			copy_to_all(skb);
		return done(ACCEPT, V_EVERYONE);
	}
	if (p->kind == MALFORMED)
		return done(DROP, V_MALFORMED);
	if (p->kind == OTHER || !(rule = first_rule(address, p)))
		return done(DROP, V_REFUSED);
	index = (rule->group & (GROUPS - 1)) * BUCKETS +
		(hash_by(rule, p, address->seed) & (BUCKETS - 1));
	entry = bpf_map_lookup_elem(&buckets, &index);
	if (!entry)
		return done(DROP, V_FOREIGN);
	state = *entry & 0xff;
	if (state == HARD || (state == SOFT && p->kind != STREAM))
		verdict = p->kind == SYN ? V_OPENED : V_OWNED;
	else if (p->kind == STREAM)
		verdict = by_connection(skb, p, state == SOFT);
	else
		verdict = V_FOREIGN;
	if (directed && verdict == V_FOREIGN && p->kind == SYN)
		note_reopened(skb, p);
	if (verdict < V_EVERYONE) {
		action = directed ? relay(skb, *entry) : DROP;
		return done(action, action == DROP ? verdict : V_RELAYED);
	}
	add_one(&accepted, index);
	return done(ACCEPT, verdict);
}

/* Make what counts of the frame linear and read its addresses; 0: no packet of ours, less: no
 * memory, and nobody knows whose it is. */
static __always_inline int begin(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + LIKELY_HEAD > end && end - data < skb->len) {
		if (bpf_skb_pull_data(skb, skb->len < LIKELY_HEAD ? skb->len : LIKELY_HEAD))
			return -1;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	return addresses_of(p, data, end);
}

static __always_inline void read_rest(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	int whole;

	if (p->version == 4)
		whole = data + ETH_HLEN + sizeof(struct iphdr) <= end &&
			walk_4(p, data + ETH_HLEN, skb->len - ETH_HLEN);
	else
		whole = data + ETH_HLEN + sizeof(struct ipv6hdr) <= end &&
			walk_6(skb, p, data + ETH_HLEN);
	if (whole)
		transport(skb, p, data, end);
}

SEC("tc")
int farm(struct __sk_buff *skb)
{
	struct packet p = {};
	struct address *address;
	int action, ours;

	if (skb->vlan_present && skb->vlan_tci & VLAN_ID)
		return TC_ACT_UNSPEC; /* It belongs to the interface of its VLAN. */
	ours = begin(skb, &p);
	if (ours <= 0)
		return ours ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	address = find(&p);
	if (!address)
		return TC_ACT_UNSPEC;
	if (address->flags & DIRECTED && skb->pkt_type == 3)
		return TC_ACT_UNSPEC; /* PACKET_OTHERHOST: the switch did not know where it was to go. */
	if (fenced()) {
		done(DROP, V_FENCED);
		return TC_ACT_SHOT;
	}
	read_rest(skb, &p);
	action = decide(skb, &p, address);
	if (action == DROP || action == COPIED)
		return TC_ACT_SHOT;
	if (action == RELAY)
		return bpf_redirect(skb->ifindex, 0);
	if (skb->pkt_type != 0)
		bpf_skb_change_type(skb, 0); /* PACKET_HOST: the frame is for the virtual MAC. */
	return TC_ACT_UNSPEC; /* Programs after this one have their say. */
}

/* A SYN that is repeated while its bucket moves leaves a half-open connection at the old owner.
 * It would answer the client's ACK for the new owner by a reset without ACK flag, and end that
 * connection. Such resets leave from HARD buckets only; those by which an application ends its
 * own connection have the flag.
 */
SEC("out")
int farm_out(struct __sk_buff *skb)
{
	struct packet p = {}, back = {};
	struct address *address;
	struct rule *rule;
	__u32 index, *entry;

	if ((skb->vlan_present && skb->vlan_tci & VLAN_ID) || begin(skb, &p) <= 0)
		return TC_ACT_UNSPEC;
	/* As if it were the client's: hashed by where it goes. */
	if (p.version == 4) {
		back.source[0] = p.destination[3];
		back.destination[2] = bpf_htonl(0xffff);
		back.destination[3] = p.source[0];
	} else {
		__builtin_memcpy(back.source, p.destination, 16);
		__builtin_memcpy(back.destination, p.source, 16);
	}
	address = find(&back);
	if (!address)
		return TC_ACT_UNSPEC;
	read_rest(skb, &p);
	if (p.kind != STREAM || (p.flags & 0x14) != 0x04)
		return TC_ACT_UNSPEC;
	back.version = p.version;
	back.protocol = p.protocol;
	back.kind = STREAM;
	back.source_port = p.destination_port;
	back.destination_port = p.source_port;
	rule = first_rule(address, &back);
	if (!rule)
		return TC_ACT_UNSPEC;
	index = (rule->group & (GROUPS - 1)) * BUCKETS +
		(hash_by(rule, &back, address->seed) & (BUCKETS - 1));
	entry = bpf_map_lookup_elem(&buckets, &index);
	if (entry && (*entry & 0xff) == HARD)
		return TC_ACT_UNSPEC;
	done(DROP, V_SILENCED);
	return TC_ACT_SHOT;
}

char license_text[] SEC("license") = "GPL";
