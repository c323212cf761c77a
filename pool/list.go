package pool

// links are an element's place in the one list it stands in.
type links[T any] struct{ prev, next *T }

// linked is what an element of a list must offer.
type linked[T any] interface {
	*T
	at() *links[T]
}

// list is an intrusive doubly linked list: its elements carry the links, so
// that moving one from list to list allocates nothing. An element stands in at
// most one list. The zero list is empty.
type list[T any, P linked[T]] struct {
	head, tail P
	n          int
}

// pushFront puts e before all others.
func (l *list[T, P]) pushFront(e P) {
	e.at().prev, e.at().next = nil, l.head
	if l.head != nil {
		l.head.at().prev = e
	} else {
		l.tail = e
	}
	l.head = e
	l.n++
}

// pushBack puts e behind all others.
func (l *list[T, P]) pushBack(e P) {
	e.at().prev, e.at().next = l.tail, nil
	if l.tail != nil {
		l.tail.at().next = e
	} else {
		l.head = e
	}
	l.tail = e
	l.n++
}

// remove takes e, which must stand in l, out of it.
func (l *list[T, P]) remove(e P) {
	p, n := e.at().prev, e.at().next
	if p != nil {
		P(p).at().next = n
	} else {
		l.head = n
	}
	if n != nil {
		P(n).at().prev = p
	} else {
		l.tail = p
	}
	e.at().prev, e.at().next = nil, nil
	l.n--
}

// each calls fn for every element, first to last. fn may remove its element
// from l, but no other.
func (l *list[T, P]) each(fn func(P)) {
	for e := l.head; e != nil; {
		next := P(e.at().next)
		fn(e)
		e = next
	}
}
