// Package triggertest reads trigger trees from text, for stories: default, always, never, count(3), delay(30000), delay(10,60000)
// (10 ms, aligned up to 60000 ms), synchronized, all(…), any(…), each(…), until(main,finally), repeat(…), end, and
// end(early,late) in which "-" stands for no child.
package triggertest
