package padstone;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.beam.sdk.expansion.ExternalTransformRegistrar;
import org.apache.beam.sdk.transforms.Combine;
import org.apache.beam.sdk.transforms.DoFn;
import org.apache.beam.sdk.transforms.ExternalTransformBuilder;
import org.apache.beam.sdk.transforms.Filter;
import org.apache.beam.sdk.transforms.Flatten;
import org.apache.beam.sdk.transforms.GroupByKey;
import org.apache.beam.sdk.transforms.MapElements;
import org.apache.beam.sdk.transforms.PTransform;
import org.apache.beam.sdk.transforms.ParDo;
import org.apache.beam.sdk.transforms.Sum;
import org.apache.beam.sdk.transforms.View;
import org.apache.beam.sdk.transforms.join.CoGbkResult;
import org.apache.beam.sdk.transforms.join.CoGroupByKey;
import org.apache.beam.sdk.transforms.join.KeyedPCollectionTuple;
import org.apache.beam.sdk.values.KV;
import org.apache.beam.sdk.values.PCollection;
import org.apache.beam.sdk.values.PCollectionList;
import org.apache.beam.sdk.values.PCollectionTuple;
import org.apache.beam.sdk.values.PCollectionView;
import org.apache.beam.sdk.values.PInput;
import org.apache.beam.sdk.values.POutput;
import org.apache.beam.sdk.values.TupleTag;
import org.apache.beam.sdk.values.TypeDescriptors;

/**
 * The transforms that Beam's tests of cross-language pipelines ask an expansion service for, in
 * Java. Beam's service takes them from here; it publishes none that has them.
 */
public final class CrossLanguageTransforms implements ExternalTransformRegistrar {
  private static final String PREFIX = "beam:transforms:xlang:test:";

  @Override
  public Map<String, ExternalTransformBuilder<?, ?, ?>> knownBuilderInstances() {
    Map<String, ExternalTransformBuilder<?, ?, ?>> known = new HashMap<>();
    known.put(PREFIX + "prefix", new PrefixBuilder());
    known.put(PREFIX + "multi", new Fixed(new Multi()));
    known.put(PREFIX + "gbk", new Fixed(GroupByKey.create()));
    known.put(PREFIX + "cgbk", new Fixed(new CoGroup()));
    known.put(PREFIX + "comgl", new Fixed(Combine.globally(Sum.ofLongs())));
    known.put(PREFIX + "compk", new Fixed(Combine.perKey(Sum.ofLongs())));
    known.put(PREFIX + "flatten", new Fixed(new FlattenAll()));
    known.put(PREFIX + "partition", new Fixed(new EvenAndOdd()));
    return known;
  }

  /** The configuration of a transform without one. */
  public static final class Nothing {}

  /** Builds the same transform always. */
  public static final class Fixed implements ExternalTransformBuilder<Nothing, PInput, POutput> {
    private final PTransform<PInput, POutput> transform;

    @SuppressWarnings("unchecked") // the test applies it to what it takes
    Fixed(PTransform<? extends PInput, ? extends POutput> transform) {
      this.transform = (PTransform<PInput, POutput>) transform;
    }

    @Override
    public PTransform<PInput, POutput> buildExternal(Nothing configuration) {
      return transform;
    }
  }

  /** Puts a configured text before each element. */
  public static final class PrefixBuilder
      implements ExternalTransformBuilder<
          PrefixBuilder.Configuration, PCollection<? extends String>, PCollection<String>> {
    /** Has the setters that a configuration's fields are matched with. */
    public static final class Configuration {
      private String data = "";

      public void setData(String data) {
        this.data = data;
      }
    }

    @Override
    public PTransform<PCollection<? extends String>, PCollection<String>> buildExternal(
        Configuration c) {
      String prefix = c.data;
      return MapElements.into(TypeDescriptors.strings()).via((String x) -> prefix + x);
    }
  }

  /** Adds a side input to each element of two inputs; doubles the side input. */
  private static final class Multi extends PTransform<PCollectionTuple, PCollectionTuple> {
    @Override
    public PCollectionTuple expand(PCollectionTuple in) {
      PCollection<String> side = in.get("side");
      PCollectionView<String> view = side.apply(View.asSingleton());
      PCollection<String> first = in.get("main1");
      PCollection<String> second = in.get("main2");
      PCollection<String> main =
          PCollectionList.of(first)
              .and(second)
              .apply(Flatten.pCollections())
              .apply(
                  ParDo.of(
                          new DoFn<String, String>() {
                            @ProcessElement
                            public void process(ProcessContext c) {
                              c.output(c.element() + c.sideInput(view));
                            }
                          })
                      .withSideInputs(view));
      return PCollectionTuple.of("main", main)
          .and(
              "side",
              side.apply(MapElements.into(TypeDescriptors.strings()).via((String x) -> x + x)));
    }
  }

  /** Joins two inputs, the values of a key in one list. */
  private static final class CoGroup
      extends PTransform<PCollectionTuple, PCollection<KV<Long, Iterable<String>>>> {
    @Override
    public PCollection<KV<Long, Iterable<String>>> expand(PCollectionTuple in) {
      TupleTag<String> first = new TupleTag<>("col1");
      TupleTag<String> second = new TupleTag<>("col2");
      PCollection<KV<Long, String>> left = in.get("col1");
      PCollection<KV<Long, String>> right = in.get("col2");
      return KeyedPCollectionTuple.of(first, left)
          .and(second, right)
          .apply(CoGroupByKey.create())
          .apply(
              ParDo.of(
                  new DoFn<KV<Long, CoGbkResult>, KV<Long, Iterable<String>>>() {
                    @ProcessElement
                    public void process(ProcessContext c) {
                      List<String> all = new ArrayList<>();
                      c.element().getValue().getAll(first).forEach(all::add);
                      c.element().getValue().getAll(second).forEach(all::add);
                      c.output(KV.of(c.element().getKey(), all));
                    }
                  }));
    }
  }

  private static final class FlattenAll extends PTransform<PCollectionTuple, PCollection<Long>> {
    @Override
    @SuppressWarnings("unchecked") // the test gives it integers
    public PCollection<Long> expand(PCollectionTuple in) {
      List<PCollection<Long>> all = new ArrayList<>();
      in.getAll().values().forEach(one -> all.add((PCollection<Long>) one));
      return PCollectionList.of(all).apply(Flatten.pCollections());
    }
  }

  private static final class EvenAndOdd extends PTransform<PCollection<Long>, PCollectionTuple> {
    @Override
    public PCollectionTuple expand(PCollection<Long> in) {
      return PCollectionTuple.of("0", in.apply("Even", Filter.by((Long x) -> x % 2 == 0)))
          .and("1", in.apply("Odd", Filter.by((Long x) -> x % 2 != 0)));
    }
  }
}
